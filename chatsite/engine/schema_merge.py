"""JSON schemas that hold at once (``allOf``, and what stands beside ``$ref`` and ``anyOf``),
made one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from chatsite.engine.backend import BadParameters

# Says nothing of an answer.
_NOTES: Final = frozenset(
    {"$defs", "definitions", "$schema", "$id", "$comment", "title", "description", "default"}
    | {"examples", "deprecated", "readOnly", "writeOnly"}
)
_LOWER: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_UPPER: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}


def merged(schemas: Sequence[Any], where: str) -> dict[str, Any]:
    """Raises `BadParameters` where two of them can't be put together."""
    both: dict[str, Any] = {}
    for schema in schemas:
        if schema is True:
            continue
        if not isinstance(schema, dict):
            raise BadParameters(f"the JSON schema allows nothing at {where}")
        for key, one in schema.items():
            if key in _NOTES:
                continue
            both[key] = _together(key, both[key], one, where) if key in both else one
    return both


def _together(key: str, left: Any, right: Any, where: str) -> Any:
    if left == right:
        return left
    try:
        match key:
            case "properties":
                names = [*left, *[name for name in right if name not in left]]
                return {
                    name: {"allOf": [left[name], right[name]]}
                    if name in left and name in right
                    else left.get(name, right.get(name))
                    for name in names
                }
            case "required":
                return [*left, *[name for name in right if name not in left]]
            case "type":
                return _types(left, right) or _refuse(key, where)
            case "enum":
                return [one for one in left if one in right] or _refuse(key, where)
            case "additionalProperties" | "items":
                if left is False or right is False:
                    return False
                return {"allOf": [left, right]}
            case "allOf":
                return [*left, *right]
            case "format" | "nullable":
                return right
        if key in _LOWER:
            return max(left, right)
        if key in _UPPER:
            return min(left, right)
    except (TypeError, AttributeError):
        raise BadParameters(f"`{key}` is wrong in the JSON schema, at {where}") from None
    return _refuse(key, where)


def _types(left: Any, right: Any) -> list[str]:
    ours, theirs = ([one] if isinstance(one, str) else list(one) for one in (left, right))
    found = [one for one in ours if one in theirs]
    if "integer" not in found and "integer" in (*ours, *theirs) and "number" in (*ours, *theirs):
        found.append("integer")  # a whole number is a number
    return found


def _refuse(key: str, where: str) -> Any:
    raise BadParameters(f"two `{key}` in the JSON schema can't both hold, at {where}")
