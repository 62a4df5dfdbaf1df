"""Merges JSON schemas that apply together.

These are ``allOf``, and the keywords beside ``$ref``, ``anyOf`` and ``oneOf``. Work is counted and
bounded in advance: merging is where a small schema becomes large.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Any, Final

from chatsite.engine.contract.backend import BadParameters

Schema = dict[str, Any]

# Annotations: they do not affect validity.
NOTES: Final = frozenset(
    {"$defs", "definitions", "$schema", "$id", "$comment", "$anchor", "$dynamicAnchor"}
    | {"$vocabulary", "$recursiveAnchor", "title", "description", "default", "examples"}
    | {"example", "deprecated", "readOnly", "writeOnly", "discriminator", "xml", "externalDocs"}
    # Without `if` and `contains`, which are refused, these have no effect.
    | {"then", "else", "minContains", "maxContains"}
)
_LOWER: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_UPPER: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_OBJECT: Final[tuple[str, ...]] = ("properties", "additionalProperties", "patternProperties")
_ARRAY: Final[tuple[str, ...]] = ("prefixItems", "items", "additionalItems")
_MAX_WAYS: Final = 512
_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("properties", "patternProperties"), dict),
    **dict.fromkeys(("required", "enum", "anyOf", "oneOf", "allOf", "prefixItems"), list),
    **dict.fromkeys(("additionalProperties", "propertyNames"), (dict, bool)),
    **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), (dict, bool)),
    **dict.fromkeys(("pattern", "format"), (str, tuple)),
    "items": (dict, bool, list),
    "type": (str, list),
    "uniqueItems": bool,
    "$ref": str,
}


class Unsatisfiable(BadParameters):
    """No value is valid; a schema with alternatives may drop this one."""


class Work:
    """Budget of work on one schema: visited keys and list items."""

    def __init__(self, most: int) -> None:
        self._left = most

    def spend(self, units: int) -> None:
        self._left -= units
        if self._left < 0:
            raise BadParameters("the JSON schema is too large, or refers to itself too often")


def value_key(value: Any) -> Hashable:
    """Return a key that is equal for equal JSON values: 1 equals 1.0, but not true."""
    match value:
        case bool() | None | str():
            return type(value), value
        case list():
            return "list", tuple(map(value_key, value))
        case dict():
            return "object", frozenset((name, value_key(one)) for name, one in value.items())
        case _:
            return "number", value


def merged(schemas: Sequence[Any], where: str, work: Work) -> Schema:
    """Return the merged schemas.

    Raise `Unsatisfiable` if they exclude each other, `BadParameters` if they can't be merged.
    """
    found: Schema = {}
    for schema in schemas:
        if schema is True:
            continue
        if not isinstance(schema, dict):
            raise Unsatisfiable(f"the JSON schema allows no value at {where}")
        work.spend(_size(schema) + _size(found))
        try:
            found = _both(found, _normal(schema, where), where)
        except BadParameters:
            raise
        except (TypeError, AttributeError, ValueError, ZeroDivisionError):
            raise BadParameters(f"a keyword of the JSON schema is invalid, at {where}") from None
    return found


def _size(schema: Schema) -> int:
    return 1 + sum(
        1 + (len(one) if isinstance(one, list | dict | tuple) else 0) for one in schema.values()
    )


def _normal(schema: Schema, where: str) -> Schema:
    """Return the schema without annotations and in a canonical form."""
    found = {key: one for key, one in schema.items() if key not in NOTES}
    for key in found.keys() & _KINDS.keys():
        if not isinstance(found[key], _KINDS[key]):
            raise BadParameters(f"`{key}` is invalid in the JSON schema, at {where}")
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        # In drafts before 6, `exclusiveMinimum: true` makes `minimum` exclusive.
        if isinstance(found.get(exclusive), bool):
            is_open = found.pop(exclusive)
            if is_open and bound in found:
                found[exclusive] = found.pop(bound)
    nullable = found.pop("nullable", False)
    if nullable is True and "type" in found:
        found["type"] = [*_as_list(found["type"]), "null"]
    if "const" in found:
        value = found.pop("const")
        found["enum"] = (
            _common_values(found["enum"], [value], where) if "enum" in found else [value]
        )
    return found


def _both(left: Schema, right: Schema, where: str) -> Schema:
    if not left or not right:
        return left or right
    found = {
        key: one
        for key, one in left.items()
        if key not in right and key not in _OBJECT and key not in _ARRAY
    }
    for key, one in right.items():
        if key not in _OBJECT and key not in _ARRAY:
            found[key] = _together(key, left[key], one, where) if key in left else one
    return found | _objects(left, right, where) | _arrays(left, right)


def _together(key: str, left: Any, right: Any, where: str) -> Any:
    if left == right and type(left) is type(right):
        return left
    match key:
        case "required":
            known = set(left)
            return [*left, *(name for name in right if name not in known)]
        case "type":
            return _types(left, right) or _excluded(key, where)
        case "enum":
            return _common_values(left, right, where)
        case "allOf":
            return [*left, *right]
        case "anyOf":
            if len(left) * len(right) > _MAX_WAYS:
                raise BadParameters(f"two `anyOf` have too many combinations, at {where}")
            return [both(one, other) for one in left for other in right]
        case "propertyNames" | "unevaluatedProperties" | "unevaluatedItems":
            return both(left, right)
        case "pattern" | "format":
            return (*_as_tuple(left), *_as_tuple(right))
        case "multipleOf":
            steps = [Fraction(str(one)) for one in (left, right)]
            whole = lcm(*(one.denominator for one in steps))
            step = lcm(*(int(one * whole) for one in steps))
            return step // whole if step % whole == 0 else step / whole
        case "uniqueItems":
            return left or right
    if key in _LOWER:
        return max(left, right)
    if key in _UPPER:
        return min(left, right)
    raise BadParameters(f"two `{key}` in the JSON schema can't be merged, at {where}")


def both(left: Any, right: Any) -> Any:
    """Return a schema of the values that both schemas allow."""
    if left is False or right is False:
        return False
    if left is True or left == {}:
        return right
    if right is True or right in ({}, left):
        return left
    return {"allOf": [left, right]}


def _objects(left: Schema, right: Schema, where: str) -> Schema:
    """Merge keywords of properties.

    A name that one schema does not list is one of its additional properties.
    """
    ours, theirs = ({key: one[key] for key in _OBJECT if key in one} for one in (left, right))
    if not ours or not theirs:
        return ours or theirs
    if ("patternProperties" in ours or "patternProperties" in theirs) and ours != theirs:
        raise BadParameters(f"`patternProperties` can't be merged with others, at {where}")
    ours_of, theirs_of = (one.get("properties", {}) for one in (ours, theirs))
    others = [one.get("additionalProperties", True) for one in (ours, theirs)]
    found: Schema = {}
    if "properties" in ours or "properties" in theirs:
        names = [*ours_of, *(name for name in theirs_of if name not in ours_of)]
        found["properties"] = {
            name: both(ours_of.get(name, others[0]), theirs_of.get(name, others[1]))
            for name in names
        }
    if "additionalProperties" in ours or "additionalProperties" in theirs:
        found["additionalProperties"] = both(*others)
    if "patternProperties" in ours:
        found["patternProperties"] = ours["patternProperties"]
    return found


def array_parts(schema: Schema) -> tuple[list[Any], Any]:
    """Return the schemas of the first items, and that of all items after them."""
    items = schema.get("items", True)
    if isinstance(items, list):  # as in drafts before 2020
        return items, schema.get("additionalItems", True)
    return list(schema.get("prefixItems", [])), items


def _arrays(left: Schema, right: Schema) -> Schema:
    ours, theirs = ({key: one[key] for key in _ARRAY if key in one} for one in (left, right))
    if not ours or not theirs:
        return ours or theirs
    (ours_first, ours_rest), (theirs_first, theirs_rest) = map(array_parts, (ours, theirs))
    first = [
        both(
            ours_first[at] if at < len(ours_first) else ours_rest,
            theirs_first[at] if at < len(theirs_first) else theirs_rest,
        )
        for at in range(max(len(ours_first), len(theirs_first)))
    ]
    rest = both(ours_rest, theirs_rest)
    return {"prefixItems": first, "items": rest} if rest is not True else {"prefixItems": first}


def _types(left: Any, right: Any) -> list[str]:
    ours, theirs = map(_as_list, (left, right))
    found = [one for one in ours if one in theirs]
    if "integer" not in found and "integer" in (*ours, *theirs) and "number" in (*ours, *theirs):
        found.append("integer")  # an integer is a number
    return found


def _common_values(left: Any, right: Any, where: str) -> list[Any]:
    known = {value_key(one) for one in right}
    return [one for one in left if value_key(one) in known] or _excluded("enum", where)


def _as_list(types: Any) -> list[str]:
    return [types] if isinstance(types, str) else list(types)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _excluded(key: str, where: str) -> Any:
    raise Unsatisfiable(f"two `{key}` in the JSON schema contradict each other, at {where}")


def types_of(schema: Mapping[str, Any]) -> list[str]:
    return _as_list(schema["type"]) if "type" in schema else []
