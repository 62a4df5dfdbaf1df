"""Parses names and arguments of tool calls in JSON, in any form that models have learned.

A call is a name and the text of a JSON object. Text that is not a call gives none, never an error.
"""

from __future__ import annotations

import json
import re
from typing import Any

_FIRST_KEY = re.compile(r'\{\s*(?:"([^"]*)("?)|$)')
_CALL_KEYS = ("name", "parameters", "arguments", "type", "function", "id")
_NAMED = re.compile(r"\s*([^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*(?:\w+\s*)?)?(?:\[ARGS\]\s*)?(?=\{)")
_BETWEEN = re.compile(r"[\s;]*")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Models write raw newlines inside strings.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_number)


def may_call(text: str) -> bool:
    """Return whether an object that begins like this may become a call."""
    if not (match := _FIRST_KEY.match(text.lstrip())):
        return False
    key, closed = match[1] or "", match[2]
    return key in _CALL_KEYS if closed else any(word.startswith(key) for word in _CALL_KEYS)


def after_marker(text: str, position: int) -> tuple[list[tuple[str, str]], int]:
    """Return the calls that follow ``[TOOL_CALLS]``, and where they end."""
    if named := _NAMED.match(text, position):
        value, end = decode(text, named.end())
        return _calls_of({"name": named[1], "arguments": value}), end
    value, end = decode(text, _skip(text, position))
    return _calls_of(value), end


def _skip(text: str, position: int) -> int:
    match = _BETWEEN.match(text, position)
    return match.end() if match else position


def read(text: str) -> list[tuple[str, str]]:
    """Return the calls if ``text`` consists of JSON calls only, else none."""
    calls: list[tuple[str, str]] = []
    position = _skip(text, 0)
    while position < len(text):
        value, position = decode(text, position)
        if not (found := _calls_of(value)):
            return []
        calls += found
        position = _skip(text, position)
    return calls


def _calls_of(value: Any) -> list[tuple[str, str]]:
    """Return names and arguments; none if any item is not a call."""
    calls = [_call_of(item) for item in (value if isinstance(value, list) else [value])]
    return [] if None in calls else [call for call in calls if call]


def _call_of(value: Any) -> tuple[str, str] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name = value.get("name", value.get("tool_name"))
    if not isinstance(name, str) or not name:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # JSON in a JSON string
        arguments, end = decode(text := arguments.strip(), 0)
        arguments = arguments if end == len(text) else None
    if not isinstance(arguments, dict):
        return None
    try:
        return name.encode(errors="replace").decode(), dumped(arguments)
    except RecursionError:
        return None


def dumped(arguments: dict[str, Any]) -> str:
    """Return JSON that can be encoded: a lone surrogate stays an escape."""
    text = json.dumps(arguments, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(arguments)
    return text


def decode(text: str, position: int) -> tuple[Any, int]:
    """Return the JSON value at ``position`` and its end; None and -1 if there is none."""
    try:
        return _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        return None, -1
