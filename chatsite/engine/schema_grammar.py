"""JSON schemas to GBNF: what an answer of that shape may look like.

Objects have their properties in the schema's order, and others only where
``additionalProperties`` allows them. Not kept to are ``uniqueItems``, ``minProperties``,
``maxProperties``, a ``multipleOf`` but 1, 0.1, 0.01 and so on, the lengths of a text that has a
``pattern`` or ``format``, and formats that `format_grammar` does not know; what restricts an
answer in yet other ways is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

from chatsite.engine.backend import BadParameters
from chatsite.engine.decimal_grammar import decimals
from chatsite.engine.format_grammar import FORMATS, RULES
from chatsite.engine.number_grammar import whole_numbers
from chatsite.engine.pattern_grammar import of_pattern, quoted
from chatsite.engine.schema_merge import merged

_MAX_DEPTH: Final = 64
_MAX_RULES: Final = 20_000
_MAX_READ: Final = 5_000_000  # characters of schemas, those within others counted again
_REFUSED: Final = (
    *("not", "if", "patternProperties", "propertyNames", "dependentSchemas", "contains"),
    *("dependentRequired", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef"),
)
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
# What says of a schema without a type that it has one.
_IMPLIED: Final = {
    "properties": "object",
    "additionalProperties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "maxItems": "array",
    "pattern": "string",
    "minLength": "string",
    "maxLength": "string",
    "minimum": "number",
    "maximum": "number",
}
# A line break may be followed by an indentation, so that models may write as they are used to.
_BASE: Final = r"""
ws ::= ( " " | "\n" [ \t]{0,32} )?
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( member ( "," ws member )* ws )? "}"
member ::= string ":" ws value
array ::= "[" ws ( value ( "," ws value )* ws )? "]"
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" ( [0-9a-ce-fA-CE-F] hex{3} | [dD] [0-7] hex{2} ) )
hex ::= [0-9a-fA-F]
integer ::= "-"? whole
whole ::= "0" | [1-9] [0-9]{0,15}
number ::= "-"? whole ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )?
"""  # noqa: E501


def to_gbnf(schema: Any) -> str:
    """Raises `BadParameters` for what is no schema, or one that can't be followed, and says
    where in it."""
    return _Converter(schema).gbnf()


class _Converter:
    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._names: dict[str, str] = {}  # of schemas by their text
        self._rules: list[str] = []
        self._read = 0

    def gbnf(self) -> str:
        try:
            root = self._rule(self._schema, "#", 0)
        except RecursionError:
            raise BadParameters("the JSON schema is nested too deep") from None
        return "\n".join([f"root ::= {root}", *self._rules]) + _BASE + RULES

    def _rule(self, schema: Any, where: str, depth: int) -> str:
        """The name of a rule for this schema; the same for the same one, also within itself."""
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            raise BadParameters(f"the JSON schema allows nothing at {where}")
        if depth > _MAX_DEPTH:
            raise BadParameters(f"the JSON schema is nested more than {_MAX_DEPTH} deep")
        key = json.dumps(schema)
        self._read += len(key)
        if len(self._rules) > _MAX_RULES or self._read > _MAX_READ:
            raise BadParameters("the JSON schema is too large")
        if key not in self._names:
            self._names[key] = name = f"r{len(self._names)}"
            self._rules.append(f"{name} ::= {self._body(self._plain(schema, where), where, depth)}")
        return self._names[key]

    def _plain(self, schema: dict[str, Any], where: str) -> dict[str, Any]:
        """The schema with ``$ref`` and ``allOf`` at its top replaced by what they stand for."""
        seen = 0
        while "$ref" in schema or "allOf" in schema:
            seen += 1
            if seen > _MAX_DEPTH:
                raise BadParameters(f"the JSON schema refers to itself without end at {where}")
            rest = {key: one for key, one in schema.items() if key not in {"$ref", "allOf"}}
            parts = list(_list(schema, "allOf", where)) if "allOf" in schema else []
            if "$ref" in schema:
                parts.insert(0, self._target(schema["$ref"], where))
            schema = merged([rest, *parts], where)
        for key in _REFUSED:
            if key in schema:
                raise BadParameters(f"`{key}` in a JSON schema can't be followed, at {where}")
        return schema

    def _target(self, reference: Any, where: str) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise BadParameters(f"the JSON schema refers to another document, at {where}")
        found = self._schema
        for escaped in reference[1:].split("/")[1:]:
            part = unquote(escaped).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise BadParameters(f"the JSON schema has no {reference}, but {where} refers to it")
        return found

    def _body(self, schema: dict[str, Any], where: str, depth: int) -> str:
        for key in ("anyOf", "oneOf"):
            if key in schema:
                rest = {name: one for name, one in schema.items() if name != key}
                ways = [
                    self._rule(merged([rest, way], where), f"{where}/{key}/{number}", depth + 1)
                    for number, way in enumerate(_list(schema, key, where))
                ]
                return " | ".join(dict.fromkeys(ways))
        if "const" in schema:
            return _literal(schema["const"])
        if "enum" in schema:
            return " | ".join(dict.fromkeys(map(_literal, _list(schema, "enum", where))))
        types = schema.get("type") or [kind for key, kind in _IMPLIED.items() if key in schema][:1]
        types = [types] if isinstance(types, str) else types
        if schema.get("nullable") is True and types:
            types = [*types, "null"]
        if not types:
            return "value"
        if unknown := [kind for kind in types if kind not in _TYPES]:
            raise BadParameters(f"{unknown[0]!r} is no type of a JSON schema, at {where}")
        return " | ".join(dict.fromkeys(self._typed(kind, schema, where, depth) for kind in types))

    def _typed(self, kind: str, schema: dict[str, Any], where: str, depth: int) -> str:
        match kind:
            case "object":
                return self._object(schema, where, depth)
            case "array":
                return self._array(schema, where, depth)
            case "string":
                return _string(schema, where)
            case "integer":
                return whole_numbers(schema, where)
            case "number":
                return decimals(schema, where)
            case "boolean":
                return '"true" | "false"'
            case _:
                return '"null"'

    def _object(self, schema: dict[str, Any], where: str, depth: int) -> str:
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties", "properties" not in schema)
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise BadParameters(f"`properties` or `required` is wrong at {where}")
        properties = {**properties, **{name: True for name in required if name not in properties}}
        if not properties and others is True:
            return "object"
        members = [
            (
                f'{quoted(json.dumps(name, ensure_ascii=False))} ":" ws '
                + self._rule(one, f"{where}/properties/{name}", depth + 1),
                name in required,
            )
            for name, one in properties.items()
        ]
        # Backwards: what may follow where nothing was written yet, and where something was.
        first, later = '""', "ws"
        if others is not False:
            value = self._rule(others, f"{where}/additionalProperties", depth + 1)
            member = self._named(f'{_other_key(list(properties))} ":" ws {value}')
            later = self._named(f'( "," ws {member} )* ws')
            first = self._named(f"( {member} {later} )?")
        for body, needed in reversed(members):
            member = self._named(body)
            if needed:
                first = self._named(f"{member} {later}")
                later = self._named(f'"," ws {member} {later}')
            else:
                first = self._named(f"{member} {later} | {first}")
                later = self._named(f'( "," ws {member} )? {later}')
        return f'"{{" ws {first} "}}"'

    def _named(self, body: str) -> str:
        name = f"p{len(self._rules)}"
        self._rules.append(f"{name} ::= {body}")
        return name

    def _array(self, schema: dict[str, Any], where: str, depth: int) -> str:
        heads = schema.get("prefixItems", [])
        items = schema.get("items", True)
        if isinstance(items, list):  # as drafts before 2020 wrote it
            heads, items = items, schema.get("additionalItems", True)
        if heads and "items" not in schema:
            items = False
        least, most = _bounds(schema, "minItems", "maxItems", where)
        rules = [
            self._rule(one, f"{where}/prefixItems/{at}", depth + 1) for at, one in enumerate(heads)
        ]
        if heads and items is False:
            least = most = len(rules)
        if most == 0:
            return '"[" ws "]"'
        separated = [*rules[:1], *[f'"," ws {rule}' for rule in rules[1:]]]
        if items is not False:
            item = self._rule(items, f"{where}/items", depth + 1)
            more = "" if most is None else str(max(0, most - max(1, len(rules))))
            fewest = max(0, least - max(1, len(rules)))
            if not rules:
                separated.append(item)
            if more != "0":
                separated.append(f'( "," ws {item} ){{{fewest},{more}}}')
        elif not rules:
            return '"[" ws "]"'
        body = " ".join(separated)
        return f'"[" ws {body} ws "]"' if least or rules else f'"[" ws ( {body} ws )? "]"'


def _string(schema: dict[str, Any], where: str) -> str:
    least, most = _bounds(schema, "minLength", "maxLength", where)
    if "pattern" in schema:
        return rf'"\"" {of_pattern(schema["pattern"], where)} "\""'
    if schema.get("format") in FORMATS:
        return rf'"\"" {schema["format"]} "\""'
    if not least and most is None:
        return "string"
    return rf'"\"" char{{{least},{"" if most is None else most}}} "\""'


def _bounds(schema: dict[str, Any], lower: str, upper: str, where: str) -> tuple[int, int | None]:
    least, most = schema.get(lower, 0), schema.get(upper)
    for key, one in ((lower, least), (upper, most)):
        if one is not None and (not isinstance(one, int) or not 0 <= one <= 100_000):
            raise BadParameters(f"`{key}` must be a number up to 100000, at {where}")
    if most is not None and most < least:
        raise BadParameters(f"`{upper}` is below `{lower}` at {where}")
    return least, most


def _list(schema: dict[str, Any], key: str, where: str) -> Sequence[Any]:
    found = schema[key]
    if not isinstance(found, list) or not found:
        raise BadParameters(f"`{key}` must be a list with something in it, at {where}")
    return found


def _literal(value: Any) -> str:
    return quoted(json.dumps(value, ensure_ascii=False))


def _other_key(names: Sequence[str]) -> str:
    """A JSON text that is none of ``names``."""
    if not names:
        return "string"
    tree: dict[str, Any] = {}
    for name in names:
        node = tree
        for character in json.dumps(name, ensure_ascii=False)[1:-1]:
            node = node.setdefault(character, {})
        node[""] = {}

    def rest(node: dict[str, Any]) -> str:
        ways = ['"\\""'] if "" not in node else []
        following = [one for one in node if one]
        barred = "".join(f"\\U{ord(one):08x}" for one in following if one != "\\")
        ways.append(rf'( [^"\\\x00-\x1F\x7F{barred}] | "\\" ["/bfnrt\\] ) char* "\""')
        ways += [f"{quoted(one)} {rest(node[one])}" for one in following if one != "\\"]
        return f"( {' | '.join(ways)} )"

    return f'"\\"" {rest(tree)}'
