"""Canonical values of columns: equal rows of both databases have equal canonical rows.

A canonical row is a list of JSON values:

=========  =====================================================================
kind       canonical value
=========  =====================================================================
uuid       32 hex digits
datetime   UTC with microseconds, ``2026-01-31T12:00:00.000001Z``
date       ``2026-01-31``
json       the value as JSON text: keys sorted, no blanks, ASCII
terms      sorted list of terms
binary     Base64
others     the value itself: a boolean, a number, or text
=========  =====================================================================
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from django.db import models

Kind = Literal["plain", "text", "bool", "uuid", "datetime", "date", "json", "terms", "binary"]
Value = bool | int | float | str | list[str] | None
Row = list[Value]
Convert = Callable[[Any], Any]

_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(
        (
            *("AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField"),
            *("SmallIntegerField", "PositiveIntegerField", "PositiveBigIntegerField"),
            *("PositiveSmallIntegerField", "FloatField"),
        ),
        "plain",
    ),
    **dict.fromkeys(("CharField", "TextField", "EmailField", "URLField", "SlugField"), "text"),
    "BooleanField": "bool",
    "UUIDField": "uuid",
    "DateTimeField": "datetime",
    "DateField": "date",
    "JSONField": "json",
    "TermsField": "terms",
    "BinaryField": "binary",
}
# Beyond it, Python writes a float with an exponent and PostgreSQL as an integer.
_INTEGRAL_FROM: Final = 1e16
# What PostgreSQL can't store in text: NUL and lone surrogates.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_SECONDS: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?")
_SECONDS_LENGTH: Final = 19

encode: Final = msgspec.json.Encoder().encode


def kind_of(field: models.Field[Any, Any]) -> Kind:
    """Return the kind of a model's column. Raises `TypeError` for a type that has none."""
    target: Any = field
    while target.remote_field is not None:
        target = target.target_field
    found = _KINDS.get(target.get_internal_type())
    if found is None:
        raise TypeError(f"{field} of type {target.get_internal_type()} has no canonical form.")
    return found


def line(row: Sequence[Value]) -> bytes:
    """Return the bytes of a row in a backup."""
    return encode(row) + b"\n"


def converter(kinds: Sequence[Kind], converts: dict[Kind, Convert]) -> Callable[[Any], Row]:
    """Return a function that converts the values of a row by their kinds; None stays None."""
    wanted = [(place, converts[kind]) for place, kind in enumerate(kinds) if kind in converts]

    def convert(row: Sequence[Any]) -> Row:
        values = list(row)
        for place, function in wanted:
            if (value := values[place]) is not None:
                values[place] = function(value)
        return values

    return convert


def canonical_json(text: str) -> str:
    value = json.loads(text, parse_float=_number)
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _number(text: str) -> float | int:
    value = float(text)
    if value.is_integer() and abs(value) >= _INTEGRAL_FROM:
        return int(value)
    return value + 0.0  # PostgreSQL has no negative zero


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# SQLite: as Django stores values there.


def _datetime_from_sqlite(text: str) -> str:
    if not _SECONDS.fullmatch(text):
        text = str(datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None))
    whole, fraction = text[:_SECONDS_LENGTH], text[_SECONDS_LENGTH + 1 :]
    return f"{whole.replace(' ', 'T')}.{fraction:0<6}Z"


def _datetime_to_sqlite(text: str) -> str:
    whole, fraction = text[:_SECONDS_LENGTH].replace("T", " "), text[_SECONDS_LENGTH:-1]
    return whole if fraction == ".000000" else whole + fraction


FROM_SQLITE: Final[dict[Kind, Convert]] = {
    "bool": bool,
    "datetime": _datetime_from_sqlite,
    "json": canonical_json,
    "terms": lambda text: sorted(text.split(" ")) if text else [],
    "binary": _base64,
}
TO_SQLITE: Final[dict[Kind, Convert]] = {
    "datetime": _datetime_to_sqlite,
    "json": lambda text: json.dumps(json.loads(text)),
    "terms": " ".join,
    "binary": base64.b64decode,
}

# PostgreSQL: rows are selected with the expressions, and inserted by COPY.

POSTGRESQL_EXPRESSIONS: Final[dict[Kind, str]] = {
    "uuid": "replace({}::text, '-', '')",
    "datetime": """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    "date": "{}::text",
    "json": "{}::text",
    "terms": "tsvector_to_array({})",
}
FROM_POSTGRESQL: Final[dict[Kind, Convert]] = {
    "json": canonical_json,
    "terms": sorted,
    "binary": _base64,
}


def _quoted_term(term: str) -> str:
    return "'" + term.replace("\\", "\\\\").replace("'", "''") + "'"


TO_POSTGRESQL: Final[dict[Kind, Convert]] = {
    "terms": lambda terms: " ".join(map(_quoted_term, terms)),
    "binary": base64.b64decode,
}


def _storable_json(text: str) -> str:
    if r"\u0000" not in text and r"\ud" not in text:
        return text
    return json.dumps(_storable(json.loads(text)), sort_keys=True, separators=(",", ":"))


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(one) for key, one in value.items()}
    return value


# Replaces what PostgreSQL can't store by U+FFFD.
STORABLE: Final[dict[Kind, Convert]] = {
    "text": lambda text: text.replace("\x00", "\ufffd") if "\x00" in text else text,
    "json": _storable_json,
}
