"""Names and arguments of calls in JSON that a model wrote, in whatever shape it learnt.

A call is a name and the text of a JSON object. What is no call gives none, never an error.
"""

from __future__ import annotations

import json
import re
from typing import Any

_FIRST_KEY = re.compile(r'\{\s*(?:"([^"]*)("?)|$)')
_CALL_KEYS = ("name", "parameters", "arguments", "type", "function", "id")
_NAMED = re.compile(r"\s*([^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*\w*\s*)?(?:\[ARGS\]\s*)?(?=\{)")
_BETWEEN = re.compile(r"[\s;]*")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# Models write line ends inside of strings.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_number)


def may_call(text: str) -> bool:
    """Whether an object that begins so may become a call."""
    if not (match := _FIRST_KEY.match(text.lstrip())):
        return False
    key, closed = match[1] or "", match[2]
    return key in _CALL_KEYS if closed else any(word.startswith(key) for word in _CALL_KEYS)


def after_marker(text: str, position: int) -> tuple[list[tuple[str, str]], int]:
    """Calls that follow a ``[TOOL_CALLS]``, and where they end."""
    if named := _NAMED.match(text, position):
        value, end = _decode(text, named.end())
        return _calls_of({"name": named[1], "arguments": value}), end
    value, end = _decode(text, _skip(text, position))
    return _calls_of(value), end


def _skip(text: str, position: int) -> int:
    match = _BETWEEN.match(text, position)
    return match.end() if match else position


def read(text: str) -> list[tuple[str, str]]:
    """The calls if ``text`` is nothing but JSON of calls, else none."""
    calls: list[tuple[str, str]] = []
    position = _skip(text, 0)
    while position < len(text):
        value, position = _decode(text, position)
        if not (found := _calls_of(value)):
            return []
        calls += found
        position = _skip(text, position)
    return calls


def _calls_of(value: Any) -> list[tuple[str, str]]:
    """Names and arguments; none if anything in it is no call."""
    calls = [_call_of(item) for item in (value if isinstance(value, list) else [value])]
    return [] if None in calls else [call for call in calls if call]


def _call_of(value: Any) -> tuple[str, str] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(name := value.get("name"), str) or not name:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # JSON in a JSON string
        arguments, end = _decode(text := arguments.strip(), 0)
        arguments = arguments if end == len(text) else None
    if not isinstance(arguments, dict):
        return None
    try:
        text = json.dumps(arguments, ensure_ascii=False)
        (name + text).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, written as an escape
        text, name = json.dumps(arguments), name.encode(errors="replace").decode()
    except RecursionError:
        return None
    return name, text


def _decode(text: str, position: int) -> tuple[Any, int]:
    """The JSON value at ``position`` and its end; None and -1 if there is none."""
    try:
        return _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        return None, -1
