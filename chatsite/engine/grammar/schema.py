"""Converts JSON schemas to GBNF, the grammar of an answer of that shape.

Everything that the grammar allows is valid by JSON Schema (2020-12, and where earlier drafts
differ); not everything valid is allowed. Objects have their properties in the schema's order, and
others only where ``additionalProperties`` allows them. Of wide formats a subset is enough.
Unsupported keywords are refused by name and location. Only annotations and unknown formats and
keywords are ignored, as the specification says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.grammar.decimals import decimals
from chatsite.engine.grammar.formats import ENCODINGS, FORMATS, RULES, language
from chatsite.engine.grammar.gbnf import derivable_rules, parse
from chatsite.engine.grammar.json_keys import PRAGMA
from chatsite.engine.grammar.multiples import bounds, is_multiple, multiples
from chatsite.engine.grammar.numbers import whole_numbers
from chatsite.engine.grammar.patterns import read
from chatsite.engine.grammar.schema_apart import Resolver, apart
from chatsite.engine.grammar.schema_merge import (
    Schema,
    Unsatisfiable,
    Work,
    array_parts,
    both,
    merged,
    types_of,
    value_key,
)
from chatsite.engine.grammar.text_language import (
    Language,
    TooLarge,
    gbnf,
    matcher,
    quoted,
    rules,
    within,
)

_T = TypeVar("_T")
_MAX_DEPTH: Final = 64
_MAX_RULES: Final = 50_000
_MAX_TEXT: Final = 2_000_000  # characters of a schema
_MAX_READ: Final = 5_000_000  # characters of schemas, nested ones counted again
_MAX_WORK: Final = 1_000_000
_MAX_COUNTED: Final = 5_000  # rules of an object with a bounded number of properties
_MAX_UNIQUE: Final = 7
_REFUSED: Final = (
    *("not", "if", "dependentSchemas", "dependentRequired", "dependencies", "contains"),
    *("$dynamicRef", "$recursiveRef", "contentMediaType", "contentSchema"),
    *("extends", "disallow", "divisibleBy"),
)
# A character as JSON text; and the escapes of characters that can't be written unescaped.
_ESCAPED: Final = re.compile(r"\\u[0-9a-f]{4}|\\.|.", re.DOTALL)
_ESCAPES: Final = '"\\bfnrt'
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
# Keywords that imply the type of a schema without one.
_IMPLIED: Final = {
    "properties": "object",
    "additionalProperties": "object",
    "patternProperties": "object",
    "propertyNames": "object",
    "unevaluatedProperties": "object",
    "minProperties": "object",
    "maxProperties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "unevaluatedItems": "array",
    "minItems": "array",
    "maxItems": "array",
    "uniqueItems": "array",
    "pattern": "string",
    "format": "string",
    "contentEncoding": "string",
    "minLength": "string",
    "maxLength": "string",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}
# A newline may be followed by indentation, so that models may format as they learned to.
_BASE: Final = r"""
ws ::= ( " " | "\n" [ \t]{0,32} )?
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( member ( "," ws member )* ws )? "}"
member ::= string ":" ws value
array ::= "[" ws ( value ( "," ws value )* ws )? "]"
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" ( [0-9a-ce-fA-CE-F] hex{3} | [dD] [0-7] hex{2} ) )
integer ::= "-"? whole
whole ::= "0" | [1-9] [0-9]{0,15}
number ::= "-"? whole ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )?
"""  # noqa: E501


def to_gbnf(schema: Any, also: Mapping[str, Any] | None = None) -> str:
    """Return GBNF whose root is ``schema``.

    ``also`` are further schemas, each a separate document, as rules by name. Raise `BadParameters`
    with the location for what is not a schema, or is not supported.
    """
    grammar = _Rules()
    try:
        lines = [
            f"{name} ::= {_Converter(one, grammar).root()}"
            for name, one in {"root": schema, **(also or {})}.items()
        ]
    except RecursionError:
        raise BadParameters("the JSON schema is nested too deep") from None
    text = "\n".join([PRAGMA, *lines, *grammar.lines]) + _BASE + RULES
    if grammar.recursive:
        _refuse_endless(text, ["root", *(also or {})], grammar.places)
    return text


def _refuse_endless(text: str, roots: Sequence[str], places: Mapping[str, str]) -> None:
    """Refuse a schema that always requires itself: none of its values is finite."""
    grammar = parse(text)
    able = dict(zip(grammar.names, derivable_rules(grammar), strict=True))
    if not all(able[name] for name in roots):
        endless = [where for name, where in places.items() if not able[name]]
        raise BadParameters(
            f"the JSON schema is infinitely recursive at {endless[-1]}: no finite value satisfies "
            "it"
        )


class _Rules:
    """The rules of a grammar under construction.

    ``places`` maps each rule of a schema to its location in its document. ``recursive``: a schema
    contains itself.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: dict[str, str] = {}
        self.recursive = False
        self._count = 0

    def name(self, where: str = "") -> str:
        self._count += 1
        if self._count > _MAX_RULES:
            raise BadParameters("the JSON schema is too large: its grammar has too many rules")
        found = f"r{self._count}"
        if where:
            self.places[found] = where
        return found

    def add(self, body: str) -> str:
        name = self.name()
        self.lines.append(f"{name} ::= {body}")
        return name


class _Converter:
    """Converts one document, to which its references belong."""

    def __init__(self, document: Any, grammar: _Rules) -> None:
        self._document = document
        self._grammar = grammar
        self._names: dict[str, str] = {}  # rule names by the schema's text
        self._open: set[str] = set()
        self._impossible: dict[str, Unsatisfiable] = {}
        self._read = 0
        self._work = Work(_MAX_WORK)
        self._anchors: dict[str, Any] | None = None

    def root(self) -> str:
        size = len(json.dumps(self._document))
        if size > _MAX_TEXT:
            raise BadParameters(
                f"the JSON schema is too large: {size} characters, {_MAX_TEXT} at most"
            )
        return self._rule(self._document, "#", 0)

    # References, and schemas that apply together.

    def _rule(self, schema: Any, where: str, depth: int) -> str:
        """Return the name of this schema's rule; equal schemas share one, also recursively."""
        if schema is True or schema == {}:
            return "value"
        if schema is False:
            raise Unsatisfiable(f"the JSON schema allows no value at {where}")
        if not isinstance(schema, dict):
            raise BadParameters(f"a JSON schema must be an object, true or false, at {where}")
        if depth > _MAX_DEPTH:
            raise BadParameters(f"the JSON schema is nested more than {_MAX_DEPTH} deep")
        key = json.dumps(schema, default=str)
        self._read += len(key)
        if self._read > _MAX_READ:
            raise BadParameters("the JSON schema is too large")
        if key in self._impossible:
            raise self._impossible[key]
        if key in self._open:
            self._grammar.recursive = True
        if key not in self._names:
            self._names[key] = name = self._grammar.name(where)
            self._open.add(key)
            try:
                body = self._body(self._plain(schema, where), where, depth)
            except Unsatisfiable as error:
                self._impossible[key] = error
                self._grammar.lines.append(f"{name} ::= []")
                del self._grammar.places[name]
                raise
            finally:
                self._open.discard(key)
            self._grammar.lines.append(f"{name} ::= {body}")
        return self._names[key]

    def _plain(self, schema: Schema, where: str) -> Schema:
        """Return the schema with ``$ref``, ``allOf`` and ``oneOf`` at its top resolved."""
        schema = merged([schema], where, self._work)
        seen = 0
        while not {"$ref", "allOf", "oneOf"}.isdisjoint(schema):
            seen += 1
            if seen > _MAX_DEPTH:
                raise BadParameters(f"the JSON schema has a circular reference at {where}")
            parts = [
                {key: one for key, one in schema.items() if key not in {"$ref", "allOf", "oneOf"}}
            ]
            if "$ref" in schema:
                parts.append(self._target(schema["$ref"], where))
            if "allOf" in schema:
                parts += _list(schema, "allOf", where)
            if "oneOf" in schema:
                parts.append({"anyOf": self._exclusive(schema, where)})
            schema = merged(parts, where, self._work)
        for key in _REFUSED:
            if key in schema:
                raise BadParameters(f"`{key}` is not supported in a JSON schema, at {where}")
        return schema

    def _exclusive(self, schema: Schema, where: str) -> list[Any]:
        """Return the alternatives of ``oneOf``, which must exclude each other."""
        ways = _list(schema, "oneOf", where)
        rest = {key: one for key, one in schema.items() if key not in {"oneOf", "anyOf"}}
        resolver = Resolver(lambda one: self._flat([rest, one], where), self._work)
        for number, way in enumerate(ways):
            for other in range(number):
                if not apart(resolver, ways[other], way):
                    raise BadParameters(
                        f"`oneOf` is not supported at {where}: a value may satisfy both "
                        f"{where}/oneOf/{other} and {where}/oneOf/{number}; use `anyOf`, or give "
                        "them a required property with different constants"
                    )
        return list(ways)

    def _flat(self, parts: Sequence[Any], where: str) -> Schema:
        """Merge schemas and resolve references, but not those inside ``anyOf``."""
        schema = merged(parts, where, self._work)
        for _ in range(_MAX_DEPTH):
            if {"$ref", "allOf"}.isdisjoint(schema):
                return schema
            more = list(schema.get("allOf", []))
            if "$ref" in schema:
                more.append(self._target(schema["$ref"], where))
            rest = {key: one for key, one in schema.items() if key not in {"$ref", "allOf"}}
            schema = merged([rest, *more], where, self._work)
        raise BadParameters(f"the JSON schema has a circular reference at {where}")

    def _target(self, reference: Any, where: str) -> Any:
        own = self._document.get("$id") if isinstance(self._document, dict) else None
        if isinstance(reference, str) and isinstance(own, str) and own.rstrip("#"):
            base = own.rstrip("#")
            if reference == base or reference.startswith(f"{base}#"):
                reference = "#" + reference.removeprefix(base).removeprefix("#")
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise BadParameters(f"the JSON schema refers to another document, at {where}")
        missing = BadParameters(f"the JSON schema has no {reference}, but {where} refers to it")
        if reference[1:2] not in {"", "/"}:
            if self._anchors is None:
                self._anchors = _anchors(self._document)
            if unquote(reference[1:]) not in self._anchors:
                raise missing
            return self._anchors[unquote(reference[1:])]
        found = self._document
        for escaped in reference[1:].split("/")[1:]:
            part = unquote(escaped).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise missing
            if isinstance(found, dict) and isinstance(found.get("$id"), str):
                raise BadParameters(
                    f"`$id` inside a JSON schema changes the base of references, which is not "
                    f"supported; {where} refers to {reference}"
                )
        return found

    # Values.

    def _body(self, schema: Schema, where: str, depth: int) -> str:
        if "anyOf" in schema:
            return self._any_of(schema, where, depth)
        if "enum" in schema:
            return self._enum(schema, where)
        types = types_of(schema) or [kind for key, kind in _IMPLIED.items() if key in schema][:1]
        if not types:
            return "value"
        for kind in types:
            if kind not in _TYPES:
                raise BadParameters(f"{kind!r} is not a JSON Schema type, at {where}")
        ways = _possible(types, lambda kind: self._typed(kind, schema, where, depth))
        return " | ".join(dict.fromkeys(ways))

    def _any_of(self, schema: Schema, where: str, depth: int) -> str:
        rest = {name: one for name, one in schema.items() if name != "anyOf"}
        ways = _list(schema, "anyOf", where)

        def rule(number: int) -> str:
            at = f"{where}/anyOf/{number}"
            return self._rule(merged([rest, ways[number]], at, self._work), at, depth + 1)

        return " | ".join(dict.fromkeys(_possible(range(len(ways)), rule)))

    def _enum(self, schema: Schema, where: str) -> str:
        fits = self._fits(schema, where)
        values = [one for one in _list(schema, "enum", where) if fits(one)]
        if not values:
            raise Unsatisfiable(f"no value of `enum` satisfies the rest of the schema, at {where}")
        self._work.spend(len(values))
        return " | ".join(dict.fromkeys(map(_literal, values)))

    def _fits(self, schema: Schema, where: str) -> Callable[[Any], bool]:
        """Return a check whether a value satisfies the keywords beside ``enum``."""
        types = types_of(schema)
        limits = bounds(schema, where)
        step = schema.get("multipleOf")
        least, most = _bounds(schema, "minLength", "maxLength", where)
        matches = _matcher(self._languages(schema, where), where)
        structure = {key for key, kind in _IMPLIED.items() if kind in {"object", "array"}}
        structured = sorted(structure & set(schema))

        def fits(value: Any) -> bool:
            if types and not any(_is(value, kind) for kind in types):
                return False
            match value:
                case bool() | None:
                    return True
                case str():
                    longest = len(value) if most is None else most
                    return least <= len(value) <= longest and matches(value)
                case int() | float():
                    return _within(value, limits) and (step is None or is_multiple(value, step))
                case _ if structured:
                    raise BadParameters(
                        f"`{structured[0]}` beside `enum` is not supported at {where}"
                    )
            return True

        return fits

    def _typed(self, kind: str, schema: Schema, where: str, depth: int) -> str:
        match kind:
            case "object":
                return self._object(schema, where, depth)
            case "array":
                return self._array(schema, where, depth)
            case "string":
                return self._string(schema, where)
            case "integer":
                found = multiples(schema, where, self._grammar.add, whole=True)
                return found or whole_numbers(schema, where)
            case "number":
                found = multiples(schema, where, self._grammar.add, whole=False)
                return found or decimals(schema, where)
            case "boolean":
                return '"true" | "false"'
            case _:
                return '"null"'

    # Objects.

    def _object(self, schema: Schema, where: str, depth: int) -> str:
        given = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(given, dict) or not isinstance(required, list):
            raise BadParameters(f"`properties` or `required` is invalid at {where}")
        needed = {name for name in required if isinstance(name, str)}
        if len(needed) < len(required):
            required = list(dict.fromkeys(name for name in required if isinstance(name, str)))
        self._work.spend(len(given) + len(required))
        least, most = _bounds(schema, "minProperties", "maxProperties", where)
        patterns = schema.get("patternProperties") or {}
        key, value = self._others(schema, patterns, where, depth)
        others = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
        properties = {**given, **{name: others for name in required if name not in given}}
        if patterns:
            properties = self._with_pattern(properties, given, patterns, where)
        names = schema.get("propertyNames", True)
        if not properties and not patterns and (listed := self._listed(names, where)):
            # Each name at most once, which a rule of names can't express.
            properties, value = dict.fromkeys(listed, others), False
        properties = self._named(properties, names, needed, where)
        if not properties and value is True and key == "string" and not least and most is None:
            return "object"
        members: list[tuple[str, bool]] = []
        for name, one in properties.items():
            try:
                rule = self._rule(one, f"{where}/properties/{name}", depth + 1)
            except Unsatisfiable:
                if name in needed:
                    raise
                continue
            key_text = quoted(json.dumps(name, ensure_ascii=False) + ":")
            members.append((f"{key_text} ws {rule}", name in needed))
        member = None
        if value is not False and not (properties and key != "string"):
            if key == "string":
                key = self._other_key(list(properties))
            try:
                rule = self._rule(value, f"{where}/additionalProperties", depth + 1)
                member = self._grammar.add(f'{key} ":" ws {rule}')
            except Unsatisfiable:
                member = None
        if least > sum(one for _, one in members) or most is not None:
            return self._counted(members, member, least, most, where)
        return self._uncounted(members, member)

    def _others(
        self, schema: Schema, patterns: Mapping[str, Any], where: str, depth: int
    ) -> tuple[str, Any]:
        """Return GBNF of the names of unlisted properties, and the schema of their values."""
        value = schema.get("additionalProperties")
        if value is None:
            value = schema.get("unevaluatedProperties", "properties" not in schema)
        names = schema.get("propertyNames", True)
        if patterns:
            if len(patterns) > 1:
                raise BadParameters(
                    f"more than one `patternProperties` is not supported at {where}"
                )
            ((pattern, value),) = patterns.items()
            names = both(names, {"pattern": pattern})
        if names is True or names == {}:
            return "string", value
        if names is False or value is False:
            return "string", False
        plain = self._plain(merged([{"type": "string"}, names], where, self._work), where)
        try:
            body = self._body(plain, f"{where}/propertyNames", depth)
        except Unsatisfiable:
            return "string", False
        return self._grammar.add(body), value

    def _listed(self, names: Any, where: str) -> list[str]:
        """Return the names that ``propertyNames`` lists by ``enum``; empty if it does not."""
        if not isinstance(names, dict):
            return []
        plain = self._plain(names, where)
        return [one for one in plain.get("enum", []) if isinstance(one, str)]

    def _with_pattern(
        self,
        properties: Mapping[str, Any],
        given: Mapping[str, Any],
        patterns: Mapping[str, Any],
        where: str,
    ) -> dict[str, Any]:
        """Apply the pattern's schema to each property whose name it matches."""
        ((pattern, value),) = patterns.items()
        matches = _matcher([read(pattern, where)], where)
        return {
            name: (both(one, value) if name in given else value) if matches(name) else one
            for name, one in properties.items()
        }

    def _named(
        self, properties: Mapping[str, Any], names: Any, needed: set[str], where: str
    ) -> dict[str, Any]:
        """Return the properties whose names ``propertyNames`` allows."""
        if names is True or names == {} or not properties:
            return dict(properties)
        try:
            plain = self._plain(merged([{"type": "string"}, names], where, self._work), where)
        except Unsatisfiable:
            plain = {"enum": []}
        if "anyOf" in plain:
            raise BadParameters(
                f"`propertyNames` with alternatives beside `properties` is not supported at {where}"
            )
        fits = self._fits(plain, where)
        listed = {value_key(one) for one in plain["enum"]} if "enum" in plain else None
        kept = {
            name: one
            for name, one in properties.items()
            if fits(name) and (listed is None or value_key(name) in listed)
        }
        for name in needed:
            if name not in kept:
                raise Unsatisfiable(f"`propertyNames` does not allow {name!r}, at {where}")
        return kept

    def _uncounted(self, members: Sequence[tuple[str, bool]], other: str | None) -> str:
        """Return GBNF of the members in order, optional ones left out or not.

        The next member is one of a run of members. Runs are recursive halves of all members, each a
        rule, so that a state holds a few stacks instead of one per member.
        """
        add, count = self._grammar.add, len(members)
        end, later_end = '""', "ws"
        if other is not None:
            later_end = add(f'( "," ws {other} )* ws')
            end = add(f"( {other} {later_end} )?")
        later = [self._grammar.name() for _ in range(count)] + [later_end]
        runs: dict[tuple[int, int], str] = {}

        def run(first: int, last: int) -> str:
            if (first, last) not in runs:
                ways = (f"{members[at][0]} {later[at + 1]}" for at in range(first, last))
                runs[first, last] = add(" | ".join(ways))
            return runs[first, last]

        # The first required member from each position on.
        needed = [count] * (count + 1)
        for at in reversed(range(count)):
            needed[at] = at if members[at][1] else needed[at + 1]

        def ways(at: int) -> list[str]:
            stop = min(needed[at] + 1, count)
            return [run(*part) for part in _halves(0, count, at, stop)]

        for at in range(count):
            body = f'"," ws ( {" | ".join(ways(at))} )'
            if needed[at] == count:
                body += f" | {later_end}"
            self._grammar.lines.append(f"{later[at]} ::= {body}")
        start = [*ways(0), *([end] if needed[0] == count else [])]
        return f'"{{" ws ( {" | ".join(start)} ) "}}"'

    def _counted(
        self,
        members: Sequence[tuple[str, bool]],
        other: str | None,
        least: int,
        most: int | None,
        where: str,
    ) -> str:
        """Return GBNF as `_uncounted`, with the number of properties bounded."""
        total = len(members)
        limit = total if most is None else min(total, most)
        if (total + 1) * (limit + 1) > _MAX_COUNTED:
            raise BadParameters(
                "`minProperties` or `maxProperties` of an object with this many properties is not "
                f"supported at {where}"
            )
        following: dict[int, str | None] = {}
        for written in range(limit + 1):
            following[written] = _rest(other, written, least, most)
        for member, needed in reversed(members):
            ways: dict[int, str | None] = {}
            for written in range(limit + 1):
                after = following.get(written + 1)
                comma = '"," ws ' if written else ""
                found = [] if after is None else [f"{comma}{member} {after}"]
                skipped = following[written]
                if not needed and skipped is not None:
                    found.append(skipped)
                ways[written] = self._grammar.add(" | ".join(found)) if found else None
            following = ways
        if following[0] is None:
            raise Unsatisfiable(
                f"no object can satisfy `minProperties` and `maxProperties` at {where}"
            )
        return f'"{{" ws {following[0]} "}}"'

    def _other_key(self, names: Sequence[str]) -> str:
        """Return GBNF of a JSON string that equals none of ``names`` in any escaping."""
        if not names:
            return "string"
        tree: dict[str, Any] = {}
        for name in names:
            node = tree
            for unit in _ESCAPED.findall(json.dumps(name, ensure_ascii=False)[1:-1]):
                node = node.setdefault(unit, {})
            node[""] = {}
        done: dict[int, str] = {}
        todo = [tree]
        while todo:
            node = todo[-1]
            following = [unit for unit in node if unit]
            if missing := [node[one] for one in following if id(node[one]) not in done]:
                todo += missing
                continue
            todo.pop()
            barred = "".join(f"\\U{ord(one):08x}" for one in following if len(one) == 1)
            escapes = "".join(one for one in _ESCAPES if f"\\{one}" not in node)
            # Not `\\/` and `\\u`: they are other spellings of a character.
            ways = [rf'( [^"\\\x00-\x1F\x7F{barred}] | "\\" [{quoted(escapes)[1:-1]}] ) char* "\""']
            ways += [f"{quoted(one)} {done[id(node[one])]}" for one in following]
            if "" not in node:
                ways.append('"\\""')
            done[id(node)] = self._grammar.add(" | ".join(ways))
        return f'"\\"" {done[id(tree)]}'

    # Arrays.

    def _array(self, schema: Schema, where: str, depth: int) -> str:
        heads, items = array_parts(schema)
        least, most = _bounds(schema, "minItems", "maxItems", where)
        if items is True:
            items = schema.get("unevaluatedItems", not heads or least > len(heads))
        if schema.get("uniqueItems") is True and most not in {0, 1}:
            return self._unique(schema, where)
        rules: list[str] = []
        for at, one in enumerate(heads[:most]):
            try:
                rules.append(self._rule(one, f"{where}/prefixItems/{at}", depth + 1))
            except Unsatisfiable:
                most = at
                break
        item = None
        if items is not False and (most is None or most > len(rules)):
            try:
                item = self._rule(items, f"{where}/items", depth + 1)
            except Unsatisfiable:
                item = None
        if item is None:
            most = len(rules)
        if most is not None and most < least:
            raise Unsatisfiable(f"no array can satisfy `minItems` at {where}")
        if most == 0:
            return '"[" ws "]"'
        separated = [*rules[:1], *[f'"," ws {rule}' for rule in rules[1:]]]
        if item is not None:
            more = "" if most is None else str(max(0, most - max(1, len(rules))))
            fewest = max(0, least - max(1, len(rules)))
            if not rules:
                separated.append(item)
            if more != "0":
                separated.append(f'( "," ws {item} ){{{fewest},{more}}}')
        body = " ".join(separated)
        return f'"[" ws {body} ws "]"' if least or rules else f'"[" ws ( {body} ws )? "]"'

    def _unique(self, schema: Schema, where: str) -> str:
        """Return GBNF of arrays of a few possible items, each at most once."""
        heads, items = array_parts(schema)
        least, most = _bounds(schema, "minItems", "maxItems", where)
        plain = self._plain(items, where) if isinstance(items, dict) else {}
        values = plain.get("enum")
        if values is not None:
            fits = self._fits(plain, where)
            values = list({value_key(one): one for one in values if fits(one)}.values())
        elif types_of(plain) and set(types_of(plain)) <= {"boolean", "null"}:
            values = [True, False] if "boolean" in types_of(plain) else []
            values += [None] if "null" in types_of(plain) else []
        if heads or values is None or len(values) > _MAX_UNIQUE or "anyOf" in plain:
            raise BadParameters(
                f"`uniqueItems` is not supported at {where}, except for items of an `enum` of at "
                f"most {_MAX_UNIQUE} values"
            )
        longest = len(values) if most is None else min(most, len(values))
        if least > longest:
            raise Unsatisfiable(f"no array can satisfy `minItems` at {where}")
        names: dict[frozenset[int], str] = {}

        def rest(used: frozenset[int]) -> str:
            if used not in names:
                comma = '"," ws ' if used else ""
                ways = [
                    f"{comma}{_literal(one)} {rest(used | {at})}"
                    for at, one in enumerate(values)
                    if at not in used and len(used) < longest
                ]
                if len(used) >= least:
                    ways.append("ws" if used else '""')
                names[used] = self._grammar.add(" | ".join(ways))
            return names[used]

        return f'"[" ws {rest(frozenset())} "]"'

    # Strings.

    def _languages(self, schema: Schema, where: str) -> list[Language]:
        """Return the languages of the patterns, formats and encodings."""
        found = [read(one, where) for one in _tuple(schema.get("pattern"))]
        formats = _tuple(schema.get("format"))
        found += [language(FORMATS[one]) for one in formats if one in FORMATS]
        encoding = schema.get("contentEncoding")
        if encoding is not None:
            if encoding not in ENCODINGS:
                raise BadParameters(f"`contentEncoding` {encoding!r} is not supported at {where}")
            found.append(language(ENCODINGS[encoding]))
        return found

    def _string(self, schema: Schema, where: str) -> str:
        least, most = _bounds(schema, "minLength", "maxLength", where)
        languages = self._languages(schema, where)
        if not languages:
            if not least and most is None:
                return "string"
            return rf'"\"" char{{{least},{"" if most is None else most}}} "\""'
        if len(languages) == 1:
            (only,) = languages
            found = within(only, least, most)
            if found is not None:
                return rf'"\"" {self._single(schema, found, only)} "\""'
        try:
            lines = rules(languages, least, most, self._grammar.name())
        except TooLarge:
            shorter = self._shorter(schema, languages, least, most)
            if shorter is None:
                given = ("pattern", "format", "contentEncoding", "minLength", "maxLength")
                names = "`, `".join(key for key in given if key in schema)
                raise BadParameters(f"`{names}` together are too complex at {where}") from None
            lines = shorter
        if not lines:
            raise Unsatisfiable(
                f"no string satisfies pattern, format and length together, at {where}"
            )
        self._grammar.lines += lines
        return rf'"\"" {lines[0].partition(" ")[0]} "\""'

    def _single(self, schema: Schema, found: Language, only: Language) -> str:
        name = schema.get("format")
        if found is only and "pattern" not in schema and name in FORMATS:
            return FORMATS[name]
        return gbnf(found)

    def _shorter(
        self, schema: Schema, languages: Sequence[Language], least: int, most: int | None
    ) -> list[str] | None:
        """Return rules for a shorter variant of a format with long parts, or None."""
        names = [FORMATS[one] for one in _tuple(schema.get("format")) if one in FORMATS]
        if len(languages) > 1 or len(names) != 1:
            return None
        try:
            return rules([language(f"short-{names[0]}")], least, most, self._grammar.name())
        except (TooLarge, ValueError):
            return None


def _halves(low: int, high: int, first: int, last: int) -> list[tuple[int, int]]:
    """Return the range from ``first`` to ``last`` as recursive halves of ``low`` to ``high``."""
    if first >= high or last <= low or first >= last:
        return []
    if first <= low and high <= last:
        return [(low, high)]
    middle = (low + high) // 2
    return [*_halves(low, middle, first, last), *_halves(middle, high, first, last)]


def _rest(other: str | None, written: int, least: int, most: int | None) -> str | None:
    """Return GBNF of what may follow ``written`` listed properties, or None.

    Other properties follow, as many as the bounds allow.
    """
    fewest = max(0, least - written)
    room = None if most is None else most - written
    if room is not None and (room < 0 or fewest > room):
        return None
    end = "ws" if written else '""'
    if other is None or room == 0:
        return None if fewest else end
    if written:
        return f'( "," ws {other} ){{{fewest},{"" if room is None else room}}} ws'
    more = "" if room is None else room - 1
    body = f'{other} ( "," ws {other} ){{{max(0, fewest - 1)},{more}}} ws'
    return body if fewest else f"( {body} )?"


def _possible(items: Iterable[_T], rule: Callable[[_T], str]) -> list[str]:
    """Return the rules of the satisfiable items. Raise `Unsatisfiable` if there are none."""
    found: list[str] = []
    reason = None
    for one in items:
        try:
            found.append(rule(one))
        except Unsatisfiable as error:
            reason = reason or error
    if not found and reason is not None:
        raise reason
    return found


def _matcher(languages: Sequence[Language], where: str) -> Callable[[str], bool]:
    """Return `matcher`, built at the first call; it raises `BadParameters` if it is too large."""
    made: list[Callable[[str], bool]] = []

    def takes(text: str) -> bool:
        try:
            if not made:
                made.append(matcher(languages))
            return made[0](text)
        except TooLarge:
            raise BadParameters(f"`pattern` is too complex at {where}") from None

    return takes


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind == "number" or value == int(value)


def _within(value: float, limits: Sequence[tuple[str, Any]]) -> bool:
    return all(
        value >= limit
        if key == "minimum"
        else value > limit
        if key == "exclusiveMinimum"
        else value <= limit
        if key == "maximum"
        else value < limit
        for key, limit in limits
    )


def _anchors(document: Any) -> dict[str, Any]:
    """Return the schemas by their ``$anchor`` names."""
    found: dict[str, Any] = {}
    todo = [document]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            todo += one
        elif isinstance(one, dict):
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(one.get(key), str):
                    found.setdefault(one[key], one)
            todo += [
                value
                for key, value in one.items()
                if key not in {"enum", "const", "default", "examples"}
            ]
    return found


def _bounds(schema: Schema, lower: str, upper: str, where: str) -> tuple[int, int | None]:
    least, most = schema.get(lower, 0), schema.get(upper)
    for key, one in ((lower, least), (upper, most)):
        whole = isinstance(one, int) or (isinstance(one, float) and one.is_integer())
        if one is not None and (not whole or isinstance(one, bool) or not 0 <= one <= 100_000):
            raise BadParameters(f"`{key}` must be an integer from 0 to 100000, at {where}")
    if most is not None and most < least:
        raise Unsatisfiable(f"`{upper}` is below `{lower}` at {where}")
    return int(least), None if most is None else int(most)


def _list(schema: Schema, key: str, where: str) -> Sequence[Any]:
    found = schema[key]
    if not isinstance(found, list) or not found:
        raise BadParameters(f"`{key}` must be a non-empty list, at {where}")
    return found


def _tuple(value: Any) -> tuple[Any, ...]:
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _literal(value: Any) -> str:
    return quoted(json.dumps(value, ensure_ascii=False))
