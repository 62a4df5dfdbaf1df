"""JSON schemas to grammars: what may be written is valid, and what is valid may be written."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pydantic
import pytest

from chatsite.engine.automaton import Automaton
from chatsite.engine.backend import BadParameters
from chatsite.engine.gbnf import parse
from chatsite.engine.schema_grammar import to_gbnf

LETTERS = [chr(code) for code in range(0x20, 0x7F)] + ["\n", "\t", "\x00", "\x7f", "ü", "你", "😀"]


class Address(pydantic.BaseModel):
    street: str
    number: int = pydantic.Field(ge=1, le=999)
    note: str | None = None


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    kind: str = pydantic.Field(pattern="^[a-z]+$")
    home: Address
    others: list[Address] = []
    tags: dict[str, int] = {}
    friends: list[Person] = []


NODES = {"type": "array", "items": {"$ref": "#/definitions/node"}}


def obj(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


def text(form: str) -> dict[str, Any]:
    return {"type": "string", "format": form}


# A schema, texts of it, and texts that are none.
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "json mode": ({"type": "object"}, [{}, {"a": [1, {"b": None}], "c": "x\"y\\"}], [[], 1, "a"]),
    "anything": ({}, [{}, [], 1.5e3, "a", None, True], []),
    "notes": ({"title": "Any", "description": "d", "default": 1}, [{"a": 1}, 3], []),
    "string": ({"type": "string"}, ["", 'a"b\\c\n\t/', "ü你😀", "\x01"], [1]),
    "lengths": ({"type": "string", "minLength": 2, "maxLength": 500}, ["ab", "x" * 500], ["a"]),
    "enum": (
        {"enum": ["a\"b", "c\\d", "line\nbreak", "ü", 1, None, {"k": [1]}]},
        ["a\"b", "c\\d", "line\nbreak", "ü", 1, None],
        ["a", 2],
    ),
    "const": ({"const": "x"}, ["x"], ["y"]),
    "types": ({"type": ["integer", "null"]}, [1, None], ["1", True]),
    "nothing": (obj(), [{}], [{"a": 1}]),
    "required": (
        obj(["a", "c"], a={"type": "integer"}, b={"type": "string"}, c={"type": "boolean"}),
        [{"a": 1, "c": True}, {"a": 1, "b": "x", "c": False}],
        [{"a": 1}, {"c": True}, {"a": 1, "b": 2, "c": True}, {"a": 1, "c": True, "d": 1}],
    ),
    "optional": (
        obj(a={"type": "integer"}, b={"type": "integer"}, c={"type": "integer"}),
        [{}, {"a": 1}, {"b": 1}, {"c": 1}, {"a": 1, "c": 1}, {"a": 1, "b": 1, "c": 1}],
        [{"d": 1}, {"a": "x"}],
    ),
    "others": (
        obj(["ab"], ab={"type": "integer"}, a={"type": "integer"})
        | {"additionalProperties": {"type": "string"}},
        [{"ab": 1}, {"ab": 1, "a": 2, "abc": "x"}, {"ab": 1, "": "y", "b": "z"}],
        [{"ab": 1, "c": 2}, {"c": "x"}],
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        [{}, {"a": 1, "b": 2}],
        [{"a": "x"}],
    ),
    "list": ({"type": "array", "items": {"type": "integer"}}, [[], [1], [1, 2, 3]], [["a"], 1]),
    "list of two or three": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
        [[1, 2], [1, 2, 3]],
        [[], [1], [1, 2, 3, 4]],
    ),
    "one at most": (
        {"type": "array", "items": {"type": "null"}, "maxItems": 1},
        [[], [None]],
        [[None, None]],
    ),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        [[1, "a"]],
        [["a", 1], [1, "a", 2]],
    ),
    "any of": (
        {"anyOf": [{"type": "string"}, obj(["a"], a={"type": "integer"}), {"$ref": "#/$defs/n"}],
         "$defs": {"n": {"type": "null"}}},
        ["x", {"a": 1}, None],
        [1, {}],
    ),
    "beside any of": (
        obj(["a"], a={"type": "integer"}) | {"anyOf": [obj(["b"], b={"type": "null"}), obj()]},
        [{"a": 1, "b": None}, {"a": 1}],
        [{"b": None}],
    ),
    "all of": (
        {"allOf": [obj(["a"], a={"type": "integer"}), obj(["b"], b={"type": "string"})]},
        [{"a": 1, "b": "x"}],
        [{"a": 1}],
    ),
    "all of one enum": (
        {"allOf": [{"$ref": "#/$defs/e"}], "$defs": {"e": {"enum": ["p", "q"]}}},
        ["p", "q"],
        ["r"],
    ),
    "a tree": (
        {"$ref": "#/definitions/node",
         "definitions": {"node": obj(["v"], v={"type": "integer"},
                                     kids=NODES)}},
        [{"v": 1, "kids": [{"v": 2}, {"v": 3, "kids": []}]}],
        [{"kids": []}],
    ),
    "itself": (obj(next={"$ref": "#"}), [{}, {"next": {"next": {}}}], [{"next": 1}]),
    "escaped names": (
        {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}}, [None], [1]),
    "one to five": ({"type": "integer", "minimum": 1, "maximum": 5}, [1, 5], [0, 6, 10, -1]),
    "bounds": (
        {"type": "integer", "minimum": -12, "exclusiveMaximum": 1005},
        [-12, -1, 0, 9, 10, 999, 1004],
        [-13, -20, 1005, 2000],
    ),
    "below": ({"type": "integer", "maximum": -7}, [-7, -10, -123], [-6, 0, 5]),
    "wide": ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, [0, -5, 10**12], []),
    "positive": ({"type": "number", "minimum": 0}, [0, 1.5, 2e9], [-1]),
    "a share": (
        {"type": "number", "minimum": 0, "maximum": 1},
        [0, 1, 0.5, 0.123456, 1.0],
        [-0.1, 1.1, 2, 10, 1.01],
    ),
    "between decimals": (
        {"type": "number", "exclusiveMinimum": -12.5, "maximum": 3.25},
        [-12.49, -12, -3.7, 0, 3, 3.25, 3.2, 2.99],
        [-12.5, -12.51, -13, 3.26, 3.3, 4, 31],
    ),
    "within one whole": (
        {"type": "number", "minimum": 2.15, "exclusiveMaximum": 2.4},
        [2.15, 2.2, 2.39999, 2.151],
        [2, 2.1, 2.14, 2.4, 2.5, 3],
    ),
    "more than nothing": (
        {"type": "number", "minimum": 0, "exclusiveMinimum": 0, "maximum": 0.01},
        [0.01, 0.001, 0.0099],
        [0, 0.0, 0.011, 0.1, 1],
    ),
    "money": (
        {"type": "number", "multipleOf": 0.01, "minimum": -5},
        [0.05, 12.5, 3, -4.99],
        [0.005, -5.01],
    ),
    "only below": ({"type": "number", "maximum": -1.5}, [-1.5, -2, -100.25], [-1.4, -1, 0, 1]),
    "pattern": ({"type": "string", "pattern": r"^\d{3}-[a-f]+(x|yz)?$"}, ["123-abyz"], ["12-a"]),
    "found anywhere": ({"type": "string", "pattern": "b+"}, ["abc", "b"], ["ac"]),
    "quotes": ({"type": "string", "pattern": r'^["\\\n]+$'}, ['"\\\n'], ["a"]),
    "formats": (
        obj(["d", "t"], d={"type": "string", "format": "date"},
            t={"type": "string", "format": "date-time"}),
        [{"d": "2024-02-29", "t": "2024-02-29T10:00:00Z"}],
        [{"d": "2024-2-9", "t": "2024-02-29T10:00:00Z"}],
    ),
    "addresses": (
        obj([*"ehfsud"], e=text("email"), h=text("hostname"), f=text("ipv4"), s=text("ipv6"),
            u=text("uri"), d=text("duration")),
        [{"e": "a.b@example.org", "h": "www.example.org", "f": "192.168.0.255", "s": "2001:db8::1",
          "u": "https://example.org:8080/a%20b?c=d#e", "d": "P1Y2M10DT2H30M"}],
        [{"e": "a b", "h": "-", "f": "256.1.1.1", "s": "1:2", "u": "x", "d": "1 day"}],
    ),
    "pydantic": (
        Person.model_json_schema(),
        [{"name": "Ann", "kind": "x", "home": {"street": "S", "number": 12, "note": None},
          "others": [{"street": "T", "number": 999}], "tags": {"a": 1},
          "friends": [{"name": "B", "kind": "y", "home": {"street": "U", "number": 1}}]}],
        [{"name": "A", "kind": "x"},
         {"name": "A", "kind": "X", "home": {"street": "", "number": 1}}],
    ),
}  # fmt: skip


def automaton(schema: Any) -> Automaton:
    return Automaton(parse(to_gbnf(schema)))


def accepts(found: Automaton, text: str) -> bool:
    state = found.walk(found.start, text)
    return state is not None and state.may_end


def written(found: Automaton, seed: int) -> str | None:
    """A text of the grammar at random; None where it did not come to an end soon."""
    draw = random.Random(seed)
    state, text = found.start, ""
    while len(text) < 400:
        if state.may_end and draw.random() < 0.5:
            return text
        letters = draw.sample(LETTERS, len(LETTERS))
        if len(text) > 80:  # rather what ends things
            letters.sort(key=lambda one: '"}],'.find(one) if one in '"}],' else 9)
        steps = ((one, found.walk(state, one)) for one in letters)
        following = next(((one, to) for one, to in steps if to is not None), None)
        if following is None:
            return text if state.may_end else None
        text, state = text + following[0], following[1]
    return None


@pytest.mark.parametrize("name", CASES)
def test_what_is_valid_may_be_written_and_what_is_not_may_not(name):
    schema, good, bad = CASES[name]
    found = automaton(schema)
    for value in good:
        assert accepts(found, json.dumps(value, ensure_ascii=False, separators=(",", ":"))), value
        assert accepts(found, json.dumps(value, indent=2, ensure_ascii=False)), value
    for value in bad:
        assert not accepts(found, json.dumps(value, ensure_ascii=False)), value


@pytest.mark.parametrize("name", CASES)
def test_all_that_may_be_written_is_valid(name):
    schema = CASES[name][0]
    found = automaton(schema)
    texts = [text for seed in range(60) if (text := written(found, seed)) is not None]
    assert texts
    for text in texts:
        value = json.loads(text, parse_float=Decimal)
        assert jsonschema_rs.is_valid(schema, value, validate_formats=True), text


def test_only_whole_texts_end():
    found = automaton({"type": "object"})
    assert not accepts(found, '{"a": 1')
    assert found.walk(found.start, '{"a": 1}x') is None


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (False, "allows nothing"),
        ({"type": "strange"}, "'strange' is no type"),
        ({"$ref": "#/$defs/x"}, "has no #/\\$defs/x"),
        ({"$ref": "https://example.org/s.json"}, "another document"),
        ({"$ref": "#"}, "without end"),
        ({"not": {"type": "string"}}, "`not`"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "look-around"),
        ({"type": "string", "pattern": "^[z-a]$"}, "range"),
        ({"type": "string", "minLength": 10**9}, "minLength"),
        ({"type": "array", "minItems": 10**9}, "minItems"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "below"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no whole number"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "no number"),
        ({"type": "number", "minimum": "x"}, "`minimum`"),
        ({"type": "string", "pattern": r"\bword"}, "edge of a word"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "can't both hold"),
        ({"anyOf": []}, "`anyOf`"),
        ({"enum": "x"}, "`enum`"),
        ({"properties": {"a": {"properties": {"b": {"type": "strange"}}}}}, "#/properties/a/prop"),
    ],
)  # fmt: skip
def test_what_can_not_be_followed_is_refused_with_a_reason(schema, reason):
    with pytest.raises(BadParameters, match=reason):
        to_gbnf(schema)


def test_a_schema_without_bottom_is_refused():
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    with pytest.raises(BadParameters, match="deep"):
        to_gbnf(schema)


def test_a_choice_that_begins_with_itself_is_refused():
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {}]}}}
    with pytest.raises(BadParameters):
        automaton(schema)


def test_a_schema_of_many_ways_is_refused_soon():
    properties = {f"a{n}": {"type": "string", "pattern": f"^{n}$"} for n in range(200)}
    way = {"type": "object", "properties": properties}
    schema = {"anyOf": [way | {"title": str(n), "const": n} for n in range(2000)], **way}
    with pytest.raises(BadParameters, match="too large"):
        to_gbnf(schema)
