"""Filters and paths of SCIM, as far as providers use them: ``attr eq "value"`` and one level."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from chatsite.accounts.scim.errors import ScimError

_TEXT_CHARS: Final = 2000
_ATTRIBUTE = r"(?:urn:[A-Za-z0-9:.\-]+:)?[A-Za-z$][\w$-]*"
_VALUE = r'(?P<value>"(?:[^"\\]|\\.)*"|true|false|null|-?\d+)'
_FILTER = re.compile(
    rf"\s*(?P<attribute>{_ATTRIBUTE}(?:\[[^\]]*\])?(?:\.{_ATTRIBUTE})?)\s+(?P<op>[A-Za-z]+)\s+{_VALUE}\s*"
)
_PATH = re.compile(
    rf"\s*(?P<attribute>{_ATTRIBUTE})(?:\[(?P<filter>[^\]]*)\])?(?:\.(?P<sub>{_ATTRIBUTE}))?\s*"
)


@dataclass(frozen=True)
class Equals:
    """``attribute eq value``; the attribute is in lower case and without a schema."""

    attribute: str
    value: Any

    def holds(self, element: Any) -> bool:
        """Return whether an element of a list matches; texts ignore case."""
        if not isinstance(element, dict):
            return False
        for name, own in element.items():
            if name.lower() == self.attribute:
                if isinstance(own, str) and isinstance(self.value, str):
                    return own.casefold() == self.value.casefold()
                return bool(own == self.value)
        return False


@dataclass(frozen=True)
class Path:
    """The target of an operation: ``attribute[filter].sub``, names in lower case."""

    attribute: str
    filter: Equals | None = None
    sub: str = ""


def parse_filter(text: str) -> Equals:
    """Return a filter. Raises `ScimError` (invalidFilter)."""
    found = _FILTER.fullmatch(text) if len(text) <= _TEXT_CHARS else None
    if found is None or found["op"].lower() != "eq":
        raise ScimError(
            f'The filter {text[:200]!r} is not supported. Use: attribute eq "value".',
            kind="invalidFilter",
        )
    attribute = re.sub(r"\[[^\]]*\]", "", _plain(found["attribute"]))
    return Equals(attribute.lower(), json.loads(found["value"], strict=False))


def parse_path(text: str) -> Path:
    """Return a path. Raises `ScimError` (invalidPath)."""
    found = _PATH.fullmatch(text) if len(text) <= _TEXT_CHARS else None
    if found is None:
        raise ScimError(f"The path {text[:200]!r} is not valid.", kind="invalidPath")
    condition = parse_filter(found["filter"]) if found["filter"] is not None else None
    return Path(_plain(found["attribute"]).lower(), condition, (found["sub"] or "").lower())


def _plain(attribute: str) -> str:
    """Remove the schema, which may contain dots (``…:core:2.0:User:userName``)."""
    return re.sub(r"^urn:.*:(?=[A-Za-z])", "", attribute, flags=re.IGNORECASE)
