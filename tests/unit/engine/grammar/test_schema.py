"""JSON schemas as grammars: what may be written is valid, and what is valid may be written."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pydantic
import pytest

from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.grammar.automaton import Automaton
from chatsite.engine.grammar.gbnf import parse
from chatsite.engine.grammar.schema import to_gbnf
from chatsite.engine.grammar.schema_merge import Work, merged

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


# A schema, valid texts, and invalid ones.
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


# Keywords that were once ignored, each with valid and invalid values.
KEPT: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "length beside a pattern": (
        {"type": "string", "pattern": "\\d{3}", "maxLength": 8},
        ["123", "x1234", "abcde123"],
        ["x", "abcdef123", "12"],
    ),
    "lengths beside an anchored pattern": (
        {"type": "string", "pattern": "^[a-z]+$", "minLength": 3, "maxLength": 200},
        ["abc", "a" * 200],
        ["ab", "a" * 201, "abC"],
    ),
    "least length beside a pattern": (
        {"type": "string", "pattern": "^(ab|c)*$", "minLength": 3},
        ["abc", "ccc", "ababababab"],
        ["ab", "cc", "abb"],
    ),
    "length beside an unknown format": (
        {"type": "string", "format": "nonsense", "maxLength": 4},
        ["", "abcd"],
        ["abcde"],
    ),
    "length beside a format": (
        {"type": "string", "format": "email", "maxLength": 12},
        ["ab@cd.ef"],
        ["abcdef@ghijk.lm", "ab"],
    ),
    "length that a format keeps anyway": (
        text("email") | {"maxLength": 254},
        ["anna.smith@example.org"],
        ["x"],
    ),
    "short addresses": (text("uri") | {"maxLength": 30}, ["https://a.b/c"], ["x" * 20]),
    "pattern beside a format": (
        text("date") | {"pattern": "^20"},
        ["2024-02-29"],
        ["1999-01-01", "20", "2023-02-29"],
    ),
    "two patterns": (
        {"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "b$"}], "maxLength": 9},
        ["ab", "axxb"],
        ["a", "b", "ba"],
    ),
    "content encoding": (
        {"type": "string", "contentEncoding": "base64"},
        ["", "aGk=", "aGVsbG8="],
        ["a", "aGk", "a b="],
    ),
    "most properties": (
        {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
        [{}, {"a": 1}, {"a": 1, "b": 2}],
        [{"a": 1, "b": 2, "c": 3}],
    ),
    "least properties": (
        {"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 2},
        [{"a": None, "b": None}],
        [{}, {"a": None}],
    ),
    "counted properties": (
        obj(["b"], a={"type": "null"}, b={"type": "null"}, c={"type": "null"})
        | {"minProperties": 2, "maxProperties": 2},
        [{"a": None, "b": None}, {"b": None, "c": None}],
        [{"b": None}, {"a": None, "c": None}, {"a": None, "b": None, "c": None}],
    ),
    "counted with others": (
        obj(a={"type": "null"})
        | {"additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 2},
        [{"a": None}, {"a": None, "x": 1}, {"x": 1, "y": 2}],
        [{}, {"a": None, "x": 1, "y": 2}],
    ),
    "names of properties": (
        {"type": "object", "propertyNames": {"pattern": "^[a-z]{1,3}$"}},
        [{}, {"a": 1, "abc": None}],
        [{"abcd": 1}, {"A": 1}],
    ),
    "names of listed properties": (
        obj(abc={"type": "null"}, x1={"type": "null"}) | {"propertyNames": {"pattern": "^[a-z]+$"}},
        [{}, {"abc": None}],
        [{"x1": None}],
    ),
    "properties by pattern": (
        {"type": "object", "patternProperties": {"^x-[a-z]+$": {"type": "integer"}},
         "additionalProperties": False},
        [{}, {"x-a": 1, "x-b": 2}],
        [{"x-a": "s"}, {"y": 1}],
    ),
    "required ones among others": (
        {"type": "object", "required": ["z"], "additionalProperties": {"type": "integer"}},
        [{"z": 1}],
        [{}, {"z": "x"}],
    ),
    "no unevaluated ones": (
        {"type": "object", "unevaluatedProperties": False}, [{}], [{"a": 1}]
    ),
    "unique values": (
        {"type": "array", "items": {"enum": ["a", 1, None]}, "uniqueItems": True, "minItems": 1},
        [["a"], [1, "a"], [None, 1, "a"]],
        [[], ["a", "a"], [1, "a", 1]],
    ),
    "as many items as places": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "maxItems": 1},
        [[1]],
        [[1, None]],
    ),
    "multiples": (
        {"type": "integer", "multipleOf": 5}, [0, 5, -35, 1000, 99995], [1, 7, 1001, -3]
    ),
    "multiples between bounds": (
        {"type": "integer", "multipleOf": 7, "minimum": -20, "exclusiveMaximum": 70000},
        [-14, 0, 7, 63, 700, 69993],
        [-21, 1, 70000, 70007],
    ),
    "halves": ({"type": "number", "multipleOf": 0.5}, [0.5, 3, -2.5, 1.0, 12345.5], [0.25, 0.7]),
    "multiples of a thousand": (
        {"type": "integer", "multipleOf": 1000, "minimum": 0}, [0, 1000, 73000], [1, 500, 1500]
    ),
    "values beside a type": (
        {"type": "string", "enum": ["a", 1, "abc"], "minLength": 2}, ["abc"], ["a", 1]
    ),
    "values beside bounds": (
        {"enum": [1, 2.5, 3, "x", True], "type": "integer", "minimum": 2}, [3], [1, 2.5, "x", True]
    ),
    "closed parts": (
        {"allOf": [obj(a={"type": "integer"}) | {"additionalProperties": False},
                   obj(a={"minimum": 3}, b={"type": "string"})]},
        [{}, {"a": 3}],
        [{"a": 2}, {"a": 3, "b": "x"}],
    ),
    "two choices at once": (
        {"allOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]},
                   {"anyOf": [{"type": "integer"}, {"type": "null"}]}]},
        [1],
        ["x", None],
    ),
    "one of several types": (
        {"oneOf": [{"type": "string"}, {"type": "integer"}]}, ["x", 1], [None]
    ),
    "one of several objects": (
        {"oneOf": [obj(["a"], a={"type": "integer"}), obj(["b"], b={"type": "string"})]},
        [{"a": 1}, {"b": "x"}],
        [{}, {"a": 1, "b": "x"}],
    ),
    "one of several kinds": (
        {"oneOf": [obj(["k"], k={"const": "x"}, v={"type": "integer"}),
                   obj(["k"], k={"const": "y"}, v={"type": "string"})]},
        [{"k": "x", "v": 1}, {"k": "y", "v": "s"}],
        [{"k": "x", "v": "s"}, {"v": 1}],
    ),
    "other names, however escaped": (
        obj(None, **{'q"': {"type": "null"}, "s/": {"type": "null"}, "n\n": {"type": "null"}})
        | {"additionalProperties": {"type": "boolean"}},
        [{'q"': None, "s/": None, "n\n": None, "other": True}, {'q"x': True}],
        [{'q"': True}, {"s/": True}, {"n\n": False}],
    ),
    "anchors": ({"$ref": "#x", "$defs": {"f": {"$anchor": "x", "type": "null"}}}, [None], [1]),
    "nothing at all": (obj(a=False, b={"type": "null"}), [{}, {"b": None}], [{"a": 1}]),
    "a way that nothing satisfies": ({"anyOf": [False, {"type": "null"}]}, [None], [1]),
}  # fmt: skip


def automaton(schema: Any) -> Automaton:
    return Automaton(parse(to_gbnf(schema)))


def accepts(found: Automaton, text: str) -> bool:
    state = found.walk(found.start, text)
    return state is not None and state.may_end


def written(found: Automaton, seed: int) -> str | None:
    """Return a random text of the grammar; None if it did not end soon."""
    draw = random.Random(seed)
    state, text = found.start, ""
    while len(text) < 400:
        if state.may_end and draw.random() < 0.5:
            return text
        letters = draw.sample(LETTERS, len(LETTERS))
        if len(text) > 80:  # prefer characters that close
            letters.sort(key=lambda one: '"}],'.find(one) if one in '"}],' else 9)
        steps = ((one, found.walk(state, one)) for one in letters)
        following = next(((one, to) for one, to in steps if to is not None), None)
        if following is None:
            return text if state.may_end else None
        text, state = text + following[0], following[1]
    return None


@pytest.mark.parametrize("name", CASES)
def test_valid_values_may_be_written_and_invalid_ones_may_not(name):
    keeps(*CASES[name])


LENGTHS = [name for name in KEPT if {"length", "lengths", "pattern"} & set(name.split())]


@pytest.mark.parametrize("name", LENGTHS)
def test_t04_lengths_patterns_and_formats_are_kept_together(name):
    keeps(*KEPT[name])


@pytest.mark.parametrize("name", [name for name in KEPT if name not in LENGTHS])
def test_t05_keywords_are_kept(name):
    keeps(*KEPT[name])


def keeps(schema: Any, good: list[Any], bad: list[Any]) -> None:
    found = automaton(schema)
    for value in good:
        assert accepts(found, json.dumps(value, ensure_ascii=False, separators=(",", ":"))), value
        assert accepts(found, json.dumps(value, indent=2, ensure_ascii=False)), value
    for value in bad:
        assert not accepts(found, json.dumps(value, ensure_ascii=False)), value


@pytest.mark.parametrize("name", [*CASES, *KEPT])
def test_all_that_may_be_written_is_valid(name):
    schema = (CASES | KEPT)[name][0]
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
        (False, "allows no value"),
        ({"type": "strange"}, "'strange' is not a JSON Schema type"),
        ({"$ref": "#/$defs/x"}, "has no #/\\$defs/x"),
        ({"$ref": "https://example.org/s.json"}, "another document"),
        ({"$ref": "#"}, "circular reference"),
        ({"not": {"type": "string"}}, "`not`"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "look-around"),
        ({"type": "string", "pattern": "^[z-a]$"}, "range"),
        ({"type": "string", "minLength": 10**9}, "minLength"),
        ({"type": "array", "minItems": 10**9}, "minItems"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "below"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no integer"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "no number"),
        ({"type": "number", "minimum": "x"}, "`minimum`"),
        ({"type": "string", "pattern": r"\bword"}, "word boundaries"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "contradict each other"),
        ({"anyOf": []}, "`anyOf`"),
        ({"enum": "x"}, "`enum`"),
        ({"properties": {"a": {"properties": {"b": {"type": "strange"}}}}}, "#/properties/a/prop"),
        ({"type": "array", "uniqueItems": True}, "`uniqueItems`"),
        ({"type": "string", "contentEncoding": "quoted-printable"}, "`contentEncoding`"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "`oneOf`"),
        ({"oneOf": [obj(a={}), obj(b={})]}, "`oneOf`"),
        ({"type": "integer", "multipleOf": 0}, "`multipleOf`"),
        ({"type": "integer", "multipleOf": 1009}, "`multipleOf`"),
        ({"type": "string", "pattern": "(x|y{900}){900}$", "maxLength": 9000}, "`pattern`, `max"),
        (text("date") | {"maxLength": 9}, "no string"),
        ({"type": "object", "minProperties": 3, "properties": {"a": {}}}, "minProperties"),
        ({"type": "object", "patternProperties": {"^a": {}, "^b": {}}}, "`patternProperties`"),
        (obj(["b"], a={}) | {"additionalProperties": False}, "allows no value at #/properties/b"),
        ({"enum": [{"a": 1}], "required": ["a"]}, "`required` beside `enum`"),
        ({"enum": ["a"], "type": "integer"}, "no value of `enum`"),
        ({"$ref": "#nowhere"}, "has no #nowhere"),
        ({"type": 5}, "`type`"),
        ({"properties": []}, "`properties`"),
        ({"items": 5}, "`items`"),
        ({"anyOf": [5]}, "#/anyOf/0"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_with_a_reason(schema, reason):
    with pytest.raises(BadParameters, match=reason):
        to_gbnf(schema)


# Keywords of JSON Schema 2020-12 and earlier drafts that restrict values and are not supported.
REFUSED = [
    *("not", "if", "contains", "dependentSchemas", "dependentRequired", "dependencies"),
    *("$dynamicRef", "$recursiveRef", "contentMediaType", "contentSchema"),
]


@pytest.mark.parametrize("key", REFUSED)
def test_t05_a_keyword_that_is_not_kept_is_refused_with_its_place(key):
    schema = obj(deep={"type": "array", "items": {key: {}}})
    with pytest.raises(BadParameters) as caught:
        to_gbnf(schema)
    assert f"`{key}`" in str(caught.value)
    assert "#/properties/deep/items" in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        (obj(["n"], n={"$ref": "#"}), "#"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "#/items"),
        ({"$ref": "#/$defs/a", "$defs": {"a": obj(["b"], b={"$ref": "#/$defs/b"}),
                                         "b": obj(["a"], a={"$ref": "#/$defs/a"})}}, "#"),
        ({"anyOf": [obj(["n"], n={"$ref": "#"}), {"type": "array", "minItems": 2,
                                                  "items": {"$ref": "#"}}]}, "#/anyOf/"),
    ],
)  # fmt: skip
def test_t06_a_schema_that_requires_itself_without_end_is_refused(schema, where):
    with pytest.raises(BadParameters, match=f"infinitely recursive at {where}"):
        to_gbnf(schema)


def test_t06_a_way_out_of_the_recursion_is_taken():
    node = {"anyOf": [{"type": "null"}, obj(["n"], n={"$ref": "#/$defs/node"})]}
    found = automaton({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert accepts(found, '{"n": {"n": null}}')


@pytest.mark.parametrize("count", [600, 1200, 10_000])
def test_t02_an_enum_of_thousands_of_values(count):
    values = [f"value-{n:05}" for n in range(count)]
    found = automaton(obj(["x"], x={"enum": values}))
    for value in values[:: count // 7]:
        assert accepts(found, json.dumps({"x": value}))
    assert not accepts(found, json.dumps({"x": f"value-{count:05}"}))
    assert found.work < 5_000


def test_t02_values_without_anything_in_common():
    values = [f"{chr(0x4E00 + n)}{n * 7919 % 10_000}" for n in range(5_000)]
    found = automaton({"enum": values})
    assert accepts(found, json.dumps(values[4321], ensure_ascii=False))
    assert found.work < 10_000


def test_h5_enums_are_merged_in_linear_work():
    """Counts comparisons: their number was once the product of both lengths."""
    values = [Counted(n) for n in range(3_000)]
    others = [Counted(n) for n in range(2_999, -1, -1)]
    merged([{"enum": values}, {"enum": others}], "#", Work(1_000_000))
    assert Counted.compared < 20_000


class Counted(int):
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    __hash__ = int.__hash__


def test_h5_numbers_and_booleans_are_distinguished_when_enums_are_merged():
    schema = {"allOf": [{"enum": [1, True, 0, "1", 2.0]}, {"enum": [True, 2, "1", False]}]}
    found = automaton(schema)
    assert [accepts(found, one) for one in ("true", '"1"', "2.0", "1", "false", "0")] == [
        True, True, True, False, False, False]  # fmt: skip


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {f"p{n}-{m}": {} for m in range(100)}} for n in range(900)]},
        {"allOf": [{"anyOf": [{"const": n + m} for n in range(30)]} for m in range(3)]},
        {"oneOf": [{"properties": {"x": {"minimum": n}}} for n in range(2_000)]},
        {"enum": ["x" * 1000 + str(n) for n in range(3_000)]},
        {"type": "object", "properties": {f"p{n}": {} for n in range(200)}, "minProperties": 3},
    ],
    ids=["parts", "ways", "exclusive", "long", "counted"],
)
def test_h5_schemas_that_grow_too_large_are_refused(schema):
    with pytest.raises(BadParameters):
        to_gbnf(schema)


def test_a_chain_of_references_is_followed():
    defs = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(60)}
    found = automaton({"$ref": "#/$defs/d0", "$defs": defs | {"d60": {"type": "null"}}})
    assert accepts(found, "null")


def test_thousands_of_properties_are_followed_in_bounded_work():
    found = automaton(obj(None, **{f"p{n}": {"type": "null"} for n in range(2_000)}))
    assert accepts(found, '{"p3": null, "p500": null, "p1999": null}')
    assert not accepts(found, '{"p500": null, "p3": null}')
    assert found.work < 10_000


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
