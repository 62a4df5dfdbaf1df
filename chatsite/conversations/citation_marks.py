"""Citation marks in the text of an answer: ``[2]``, ``[1, 3]``, ``[1][2]``.

A mark is a list of numbers in brackets, outside of code and formulas. These are no marks:

- ``[9](https://…)`` and ``![9](…)``, links and images,
- ``\\[9\\]``, an escaped bracket,
- ``[9]: …`` at the start of a line, and all ``[9]`` of a text that defines one: its own references,
- ``values[9]`` with an index in prose: behind a name with an underscore or an inner capital letter,
  behind a single lower-case letter, or before an assignment or a member (``a[9] = 5``, ``a[9].x``).

The page has the same rules (`static/src/markdown/citations.js`); both are tested on
``tests/cases/citations.json``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

# Four digits are a year.
_MARK: Final = r"\[(\d{1,3}(?:[ \t]*[,，、;][ \t]*\d{1,3}){0,20})\]"
_TOKEN: Final = re.compile(
    r"(?P<escape>\\[^()\[\]])"
    # A list item or a quotation may begin with a fence.
    r"|^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(?P<fence>`{3,}|~{3,})"
    r"|(?P<ticks>`+)"
    r"|(?P<math>\$\$|\\\[|\\\(|\$(?=[^\s$]))"
    rf"|(?P<mark>{_MARK})",
    re.MULTILINE,
)
_DEFINITION: Final = re.compile(r"^ {0,3}\[(\d{1,3})\]:[ \t]*\S", re.MULTILINE)
_BLANK_LINE: Final = re.compile(r"\n[ \t]*\n")
_TICKS: Final = re.compile(r"`+")
_INDEXED: Final = re.compile(
    r"(?:(?<![A-Za-z0-9_])[a-z]|[A-Za-z0-9]*_\w*|\b[a-z]+[A-Z]\w*)$", re.ASCII
)
_USED_AS_INDEX: Final = re.compile(r"[ \t]*(?:[-+*/]?=(?!=)|\.[A-Za-z_])")
_LINK: Final = re.compile(r"\(")
# Longest name that is looked at before a bracket.
_NAME_CHARS: Final = 64
_FORMULA_CHARS: Final = 2000


def clean(text: str, passages: int) -> tuple[str, int]:
    """Remove marks of numbers above ``passages``; return the text and the count of numbers removed.

    Takes time linear in the length of the text.
    """
    if "[" not in text:
        return text, 0
    defined = {int(found) for found in _DEFINITION.findall(text)}
    blank_lines = [found.start() for found in _BLANK_LINE.finditer(text)]
    ticks: dict[int, list[int]] = {}
    for found in _TICKS.finditer(text):
        ticks.setdefault(found.end() - found.start(), []).append(found.start())
    kept: list[str] = []
    done = at = removed = 0
    while token := _TOKEN.search(text, at):
        at = token.end()
        if fence := token["fence"]:
            at = _fence_end(text, at, fence)
        elif run := token["ticks"]:
            at = _span_end(ticks.get(len(run), []), token.end(), len(run), blank_lines)
        elif opening := token["math"]:
            at = _formula_end(text, token.end(), opening, blank_lines)
        elif token["mark"] and _is_mark(text, token.start(), token.end()):
            numbers = [int(one) for one in re.findall(r"\d+", token["mark"])]
            valid = [one for one in numbers if 1 <= one <= passages or one in defined]
            if len(valid) == len(numbers):
                continue
            removed += len(numbers) - len(valid)
            start = token.start()
            if not valid:  # with the spaces before it
                while start > done and text[start - 1] in " \t":
                    start -= 1
            kept += [text[done:start], f"[{', '.join(map(str, valid))}]" if valid else ""]
            done = token.end()
    return "".join((*kept, text[done:])), removed


def _is_mark(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _NAME_CHARS) : start]
    if before.endswith(("!", "\\", "[")) or _LINK.match(text, end):
        return False
    return not (
        _INDEXED.search(before) or (before[-1:].isalnum() and _USED_AS_INDEX.match(text, end))
    )


def _fence_end(text: str, at: int, fence: str) -> int:
    """Return the end of a fenced block; that of the text if nothing closes it."""
    closing = re.compile(rf"^[ \t>]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
    found = closing.search(text, text.find("\n", at) if "\n" in text[at:] else len(text))
    return found.end() if found else len(text)


def _span_end(runs: list[int], at: int, size: int, blank_lines: list[int]) -> int:
    """Return the end of a code span; ``at`` if no run of the same length closes it in its block."""
    place = bisect_left(runs, at)
    if place == len(runs) or runs[place] > _limit(blank_lines, at):
        return at
    return runs[place] + size


def _formula_end(text: str, at: int, opening: str, blank_lines: list[int]) -> int:
    closing = {"$$": "$$", "$": "$", r"\[": r"\]", r"\(": r"\)"}[opening]
    limit = min(_limit(blank_lines, at), at + _FORMULA_CHARS)
    found = text.find(closing, at, int(limit))
    # As in "$5 and $6": what closes a formula has no blank before it and no digit behind it.
    if opening == "$" and found >= 0:
        if text[found - 1].isspace() or text[found + 1 : found + 2].isdigit():
            return at
        if "\n" in text[at:found]:
            return at
    return found + len(closing) if found >= 0 else at


def _limit(blank_lines: list[int], at: int) -> float:
    place = bisect_left(blank_lines, at)
    return blank_lines[place] if place < len(blank_lines) else float("inf")
