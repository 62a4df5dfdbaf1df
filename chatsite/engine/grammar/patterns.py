"""Regular expressions as languages.

Patterns of JSON schemas match anywhere in a text; others match a whole answer.
"""

from __future__ import annotations

import re
from typing import Any, Final

from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.grammar.text_language import (
    ANY,
    Choice,
    Language,
    Row,
    Times,
    gbnf,
    letter,
    plain,
    without,
)

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
_ANYTHING: Final = Times(ANY, 0, None)


def read(pattern: Any, where: str) -> Language:
    """Return the language of a pattern.

    Raise `BadParameters` for what is not a pattern, or has look-around, back-references or inner
    anchors.
    """
    if not isinstance(pattern, str) or len(pattern) > _MAX_LENGTH:
        raise BadParameters(
            f"`pattern` must be a string of at most {_MAX_LENGTH} characters at {where}"
        )
    return _Pattern(pattern, where).language()


def of_pattern(pattern: Any, where: str) -> str:
    """Return GBNF of an unquoted text that matches the whole pattern (vLLM's ``guided_regex``).

    Raise `BadParameters` as `read` does.
    """
    if not isinstance(pattern, str) or len(pattern) > _MAX_LENGTH:
        raise BadParameters(
            f"`pattern` must be a string of at most {_MAX_LENGTH} characters at {where}"
        )
    return gbnf(_Pattern(pattern, where, whole=True).language(), plain)


class _Pattern:
    def __init__(self, pattern: str, where: str, *, whole: bool = False) -> None:
        self._text = pattern
        self._where = where
        self._whole = whole
        self._at = 0

    def language(self) -> Language:
        found = self._choice(0)
        if self._at < len(self._text):
            raise self._error("unmatched `)`")
        return found

    def _choice(self, depth: int) -> Language:
        if depth > _MAX_DEPTH:
            raise self._error("groups are nested too deep")
        ways = [self._sequence(depth)]
        while self._take("|"):
            ways.append(self._sequence(depth))
        return ways[0] if len(ways) == 1 else Choice(tuple(ways))

    def _sequence(self, depth: int) -> Language:
        parts: list[Language] = []
        open_ = depth == 0 and not self._take("^")  # without an anchor any text may precede
        closed = False
        while (one := self._peek()) and one not in "|)":
            if depth == 0 and one == "$" and self._text[self._at + 1 : self._at + 2] in {"", "|"}:
                self._at += 1
                closed = True
                break
            parts.append(self._repeated(self._item(depth)))
        if open_ and not self._whole:
            parts.insert(0, _ANYTHING)
        if depth == 0 and not closed and not self._whole:
            parts.append(_ANYTHING)
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def _item(self, depth: int) -> Language:
        one = self._peek()
        self._at += 1
        match one:
            case "(":
                if self._take("?") and not self._take(":") and not self._group_name():
                    raise self._error("look-around is not supported")
                body = self._choice(depth + 1)
                if not self._take(")"):
                    raise self._error("unmatched `(`")
                return body
            case "[":
                return letter(self._class())
            case ".":
                return letter(without([(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]))
            case "\\":
                if self._peek() == "b":
                    raise self._error("word boundaries are not supported")
                return letter(self._escape())
            case "^" | "$":
                raise self._error("anchors are supported only at the start and end")
            case "*" | "+" | "?" | "{":
                raise self._error(f"nothing to repeat before `{one}`")
            case _:
                return letter([(ord(one), ord(one))])

    def _group_name(self) -> bool:
        found = re.compile(r"P?<[A-Za-z_]\w*>").match(self._text, self._at)
        if found:
            self._at = found.end()
        return bool(found)

    def _repeated(self, item: Language) -> Language:
        one = self._peek()
        if one and one in "*+?":
            self._at += 1
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[one]
        elif found := re.compile(r"\{(\d{1,9})(,(\d{0,9}))?\}").match(self._text, self._at):
            least, most = int(found[1]), int(found[1])
            if found[2]:
                most = int(found[3]) if found[3] else None
            if max(least, most or 0) > _MAX_TIMES:
                raise self._error(f"repetition counts are limited to {_MAX_TIMES}")
            if most is not None and most < least:
                raise self._error("the maximum is below the minimum")
            self._at = found.end()
        else:
            return item
        self._take("?")  # laziness does not change the language
        return Times(item, least, most)

    def _class(self) -> _Ranges:
        negated = self._take("^")
        ranges: _Ranges = []
        while not self._take("]"):
            if self._at >= len(self._text):
                raise self._error("unterminated character class")
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
                    raise self._error("the range is reversed")
                found = [(found[0][0], last[0][0])]
            ranges += found
        return without(ranges) if negated else ranges

    def _class_item(self) -> _Ranges:
        one = self._peek()
        self._at += 1
        return self._escape() if one == "\\" else [(ord(one), ord(one))]

    def _escape(self) -> _Ranges:
        one = self._peek()
        self._at += 1
        if one.lower() in _CLASSES and one:
            ranges = _CLASSES[one.lower()]
            return list(ranges) if one.islower() else without(ranges)
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
            raise self._error(f"`\\{one}` is not supported")
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
