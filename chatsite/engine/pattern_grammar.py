"""Regular expressions of JSON schemas to GBNF, for texts within JSON's quotes."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from chatsite.engine.backend import BadParameters

_MAX_LENGTH: Final = 2000
_MAX_TIMES: Final = 1000
_MAX_DEPTH: Final = 50
_LAST_CHARACTER: Final = 0x10FFFF
_CLASSES: Final = {
    "d": [(0x30, 0x39)],
    "w": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
    "s": [(0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0)],
}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0", "b": "\b"}

_Ranges = list[tuple[int, int]]


def quoted(text: str) -> str:
    """``text`` as a literal of GBNF."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f]", lambda one: f"\\x{ord(one[0]):02x}", escaped) + '"'


def of_pattern(pattern: Any, where: str) -> str:
    """Raises `BadParameters` for what is no pattern, or one with look-around, references to
    groups or anchors in its middle."""
    if not isinstance(pattern, str) or len(pattern) > _MAX_LENGTH:
        raise BadParameters(f"`pattern` must be a text of at most {_MAX_LENGTH} at {where}")
    return _Pattern(pattern, where).gbnf()


class _Pattern:
    def __init__(self, pattern: str, where: str) -> None:
        self._text = pattern
        self._where = where
        self._at = 0

    def gbnf(self) -> str:
        body = self._choice(0)
        if self._at < len(self._text):
            raise self._error("`)` closes nothing")
        return f"( {body} )"

    def _choice(self, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise self._error("brackets are too deep")
        ways = [self._sequence(depth)]
        while self._take("|"):
            ways.append(self._sequence(depth))
        return " | ".join(ways)

    def _sequence(self, depth: int) -> str:
        parts = []
        open_ = depth == 0 and not self._take("^")  # without an anchor anything may come before
        closed = False
        while (one := self._peek()) and one not in "|)":
            if depth == 0 and one == "$" and self._text[self._at + 1 : self._at + 2] in {"", "|"}:
                self._at += 1
                closed = True
                break
            parts.append(self._repeated(self._item(depth)))
        if open_:
            parts.insert(0, "char*")
        if depth == 0 and not closed:
            parts.append("char*")
        return " ".join(parts) or '""'

    def _item(self, depth: int) -> str:
        one = self._peek()
        self._at += 1
        match one:
            case "(":
                if self._take("?") and not self._take(":") and not self._group_name():
                    raise self._error("look-around can't be followed")
                body = self._choice(depth + 1)
                if not self._take(")"):
                    raise self._error("a bracket is not closed")
                return f"( {body} )"
            case "[":
                return _in_quotes(self._class())
            case ".":
                return _in_quotes(_without([(0x0A, 0x0A), (0x0D, 0x0D)]))
            case "\\":
                if self._peek() == "b":
                    raise self._error("an edge of a word can't be followed")
                return _in_quotes(self._escape())
            case "^" | "$":
                raise self._error("an anchor stands in the middle")
            case "*" | "+" | "?" | "{":
                raise self._error(f"`{one}` repeats nothing")
            case _:
                return _in_quotes([(ord(one), ord(one))])

    def _group_name(self) -> bool:
        found = re.compile(r"P?<[A-Za-z_]\w*>").match(self._text, self._at)
        if found:
            self._at = found.end()
        return bool(found)

    def _repeated(self, item: str) -> str:
        one = self._peek()
        times = one if one and one in "*+?" else ""
        if times:
            self._at += 1
        elif found := re.compile(r"\{(\d+)(,(\d*))?\}").match(self._text, self._at):
            least, most = int(found[1]), int(found[3]) if found[3] else None
            if least > _MAX_TIMES or (most or 0) > _MAX_TIMES or (most or least) < least:
                raise self._error(f"a repetition goes up to {_MAX_TIMES}")
            self._at = found.end()
            times = found[0]
        if times:
            self._take("?")  # lazy or not, the texts are the same
        return f"{item}{times}"

    def _class(self) -> _Ranges:
        negated = self._take("^")
        ranges: _Ranges = []
        while not self._take("]"):
            if self._at >= len(self._text):
                raise self._error("a class is not closed")
            found = self._class_item()
            if (
                len(found) == 1
                and found[0][0] == found[0][1]
                and self._peek() == "-"
                and self._text[self._at + 1 : self._at + 2] not in {"]", ""}
            ):
                self._at += 1
                last = self._class_item()
                if len(last) != 1 or last[0][0] != last[0][1] or last[0][0] < found[0][0]:
                    raise self._error("a range ends before it begins")
                found = [(found[0][0], last[0][0])]
            ranges += found
        return _without(ranges) if negated else ranges

    def _class_item(self) -> _Ranges:
        one = self._peek()
        self._at += 1
        return self._escape() if one == "\\" else [(ord(one), ord(one))]

    def _escape(self) -> _Ranges:
        one = self._peek()
        self._at += 1
        if one.lower() in _CLASSES and one:
            ranges = _CLASSES[one.lower()]
            return list(ranges) if one.islower() else _without(ranges)
        if one in _CONTROLS and one:
            code = ord(_CONTROLS[one])
        elif found := re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})").match(
            self._text, self._at - 1
        ):
            self._at = found.end()
            code = int(found[1] or found[2], 16)
        elif one and not one.isalnum():
            code = ord(one)
        else:
            raise self._error(f"`\\{one}` can't be followed")
        return [(code, code)]

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _error(self, what: str) -> BadParameters:
        return BadParameters(
            f"the pattern {self._text[:100]!r} can't be used: {what}, {self._where}"
        )


def _without(ranges: _Ranges) -> _Ranges:
    gaps, begin = [], 0
    for first, last in sorted(ranges):
        if begin < first:
            gaps.append((begin, first - 1))
        begin = max(begin, last + 1)
    return [*gaps, (begin, _LAST_CHARACTER)] if begin <= _LAST_CHARACTER else gaps


def _in_quotes(ranges: _Ranges) -> str:
    """One character of ``ranges`` as JSON writes it: some only behind a backslash."""
    special = sorted({*range(0x20), 0x22, 0x5C, 0x7F})
    plain = "".join(
        f"\\U{low:08x}-\\U{high:08x}"
        for first, last in ranges
        for low, high in _cut(first, last, special)
    )
    escaped = [
        quoted(json.dumps(chr(code))[1:-1] if code != 0x7F else "\\u007f")
        for code in special
        if any(first <= code <= last for first, last in ranges)
    ]
    ways = ([f"[{plain}]"] if plain else []) + escaped
    if not ways:
        return "[]"
    return ways[0] if len(ways) == 1 else f"( {' | '.join(ways)} )"


def _cut(first: int, last: int, out: list[int]) -> list[tuple[int, int]]:
    parts = []
    for code in out:
        if first <= code <= last:
            if first < code:
                parts.append((first, code - 1))
            first = code + 1
    return [*parts, (first, last)] if first <= last else parts
