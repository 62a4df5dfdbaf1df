"""The terms of texts and queries, by one rule for both databases.

Neither database segments Chinese: FTS5's trigram tokenizer finds nothing shorter than three
characters, most Chinese words have two, and PostgreSQL has no such tokenizer at all. So texts are
segmented here. In scripts with spaces between words a term is a word; in those without (Chinese,
Japanese, Thai…; also Korean, whose particles are attached to words) every two adjacent characters
are a term, and so is the last character alone, so that any single character is a prefix of some
term. The index stores which terms a text has, without positions: its results are checked against
the text itself (`Query.find`), which is read for its snippet anyway. That makes the index a third
as large, and the same rule decides on both databases what a phrase is.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from django.db import models

QUERY_CHARS_MAX = 200
# A longer text is indexed in parts: PostgreSQL's tsvector is limited to 1 MiB.
PART_CHARS = 50_000
_PART_OVERLAP = 200
_UNITS_MAX = 16
# Nobody types longer words; longer ones are encoded data.
_TERM_CHARS = 40
# CJK, kana, Hangul, Thai, Lao, Burmese, Khmer.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af"
)
_WORD = rf"[^\W_{_UNSPACED}]"
_PIECES = re.compile(rf"([{_UNSPACED}]+)|({_WORD}+)")
# The same pieces of a text that is ASCII, found in a tenth of the time.
_ASCII_WORDS = re.compile("[a-z0-9]+")
_QUOTES = re.compile('["\u201c\u201d\u201e\uff02\u300c\u300d]')


class _Folding(dict[int, str]):
    """Removes case, width and accents character by character, so that positions can be mapped back.

    Japanese voicing marks are kept, since they distinguish words.
    """

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code))
        bare = "".join(part for part in parts if not "\u0300" <= part <= "\u036f")
        folded = unicodedata.normalize("NFKC", bare).casefold()
        self[code] = folded
        return folded


_FOLDING = _Folding()


def fold(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_FOLDING)


def sequence(text: str) -> list[str]:
    """Return the terms of a text in their order, without the last character of a long run."""
    if text.isascii():
        return [word[:_TERM_CHARS] for word in _ASCII_WORDS.findall(text.lower())]
    found: list[str] = []
    for unspaced, word in _PIECES.findall(fold(text)):
        if word:
            found.append(word[:_TERM_CHARS])
        elif len(unspaced) == 1:
            found.append(unspaced)
        else:
            found.extend(map("".join, pairwise(unspaced)))
    return found


def mostly_unspaced(text: str) -> bool:
    """Return whether most letters are of scripts without spaces between words."""
    pieces = _PIECES.findall(text)
    unspaced = sum(len(one) for one, _word in pieces)
    return unspaced > sum(len(word) for _one, word in pieces)


def terms(text: str) -> set[str]:
    """Return all terms of a text."""
    if text.isascii():
        return set(sequence(text))
    found: set[str] = set()
    for unspaced, word in _PIECES.findall(fold(text)):
        if word:
            found.add(word[:_TERM_CHARS])
        else:
            found.update(map("".join, pairwise(unspaced)))
            found.add(unspaced[-1])
    return found


def parts(text: str) -> Iterator[str]:
    """Yield the text in parts that the index can hold. They overlap, so that no word is split."""
    yield text[:PART_CHARS]
    for start in range(PART_CHARS - _PART_OVERLAP, len(text) - _PART_OVERLAP, PART_CHARS):
        yield text[start : start + PART_CHARS + _PART_OVERLAP]


@dataclass(frozen=True)
class Query:
    """A text must have the terms ``whole`` and ``prefixes``; ``patterns`` decide."""

    whole: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()
    patterns: tuple[re.Pattern[str], ...] = ()

    def find(self, text: str) -> list[tuple[int, int]] | None:
        """Return the matches in ``text``, sorted and disjoint; None if a pattern has none."""
        folded = fold(text)
        spans: list[tuple[int, int]] = []
        for pattern in self.patterns:
            found = [match.span() for match in pattern.finditer(folded)]
            if not found:
                return None
            spans += found
        return _in_source(text, _joined(spans))


def parse(text: str) -> Query:
    """Parse a query; any text is valid.

    All words must occur, in any order; words in quotes, or joined as in ``foo_bar``, must be
    adjacent. The last word may be a prefix.
    """
    text = text[:QUERY_CHARS_MAX]
    units: list[list[tuple[str, str]]] = []
    quoted = False
    for segment in _QUOTES.split(text):
        for words in [segment] if quoted else segment.split():
            units.append(_PIECES.findall(fold(words)))  # noqa: PERF401
        quoted = not quoted
    units = [unit for unit in units if unit][:_UNITS_MAX]
    open_end = bool(text) and not text[-1].isspace() and not _QUOTES.match(text[-1])
    whole: set[str] = set()
    prefixes: set[str] = set()
    patterns: list[re.Pattern[str]] = []
    for unit in units:
        last_is_begun = open_end and unit is units[-1]
        for number, (unspaced, word) in enumerate(unit):
            if word:
                begun = last_is_begun and number == len(unit) - 1 and len(word) < _TERM_CHARS
                (prefixes if begun else whole).add(word[:_TERM_CHARS])
            elif len(unspaced) == 1:
                prefixes.add(unspaced)
            else:
                whole.update(map("".join, pairwise(unspaced)))
        patterns.append(_pattern(unit, last_is_begun))
    return Query(frozenset(whole), frozenset(prefixes - whole), tuple(patterns))


def _pattern(unit: list[tuple[str, str]], begun: bool) -> re.Pattern[str]:
    """Return the pattern of one unit: its pieces with only punctuation between them."""
    text = ""
    for number, (unspaced, word) in enumerate(unit):
        if number:
            # Two words need a separator; a change of script is one.
            text += r"[\W_]+" if word and unit[number - 1][1] else r"[\W_]*"
        if unspaced:
            text += re.escape(unspaced)
        else:
            last = number == len(unit) - 1
            text += rf"(?<!{_WORD}){re.escape(word)}" + ("" if begun and last else rf"(?!{_WORD})")
    return re.compile(text)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _in_source(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Map positions in the folded text to positions in the text."""
    if text.isascii():
        return spans
    ends = list(accumulate(len(_FOLDING[ord(character)]) for character in text))
    return [
        # Marks that fold to nothing belong to the preceding character.
        (bisect_right(ends, start), max(bisect_right(ends, end - 1) + 1, bisect_right(ends, end)))
        for start, end in spans
    ]


class TermsField(models.Field):  # type: ignore[type-arg]
    """A set of terms: ``tsvector`` on PostgreSQL, text separated by spaces on SQLite.

    On SQLite, triggers of migrations maintain an FTS5 index of it.
    """

    def db_type(self, connection: Any) -> str:
        return "tsvector" if connection.vendor == "postgresql" else "text"

    def get_placeholder(self, value: Any, compiler: Any, connection: Any) -> str:
        return "array_to_tsvector(%s)" if connection.vendor == "postgresql" else "%s"

    def get_db_prep_value(
        self, value: Iterable[str], connection: Any, prepared: bool = False
    ) -> Any:
        return sorted(value) if connection.vendor == "postgresql" else " ".join(sorted(value))
