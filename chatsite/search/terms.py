"""What a text is found by: one way to cut texts and queries, used with both databases.

Neither database cuts Chinese by itself: FTS5's trigram tokenizer finds nothing under three
characters, most Chinese words have two, and PostgreSQL has no such tokenizer at all. So texts are
cut here, by one rule. In scripts that write words with spaces a term is a word; in those that do
not (Chinese, Japanese, Thai…; Korean, whose particles cling to words, with them) every two
neighbours are a term, and the last character alone, so that one character is the beginning of
some term. The index holds which terms a text has, without places: what it finds is held against
the text itself (`Query.find`), which has to be read for its snippet anyway. That keeps the index
a third as large, and one rule, this one, decides on both databases what a phrase is.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

QUERY_CHARS_MAX = 200
# A longer text is indexed in parts: PostgreSQL's tsvector holds 1 MiB of terms.
PART_CHARS = 50_000
_PART_OVERLAP = 200
_UNITS_MAX = 16
# Nobody types more of a word; what is longer was encoded by a machine.
_TERM_CHARS = 40
# CJK, kana, Hangul, Thai, Lao, Burmese, Khmer.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af"
)
_WORD = rf"[^\W_{_UNSPACED}]"
_PIECES = re.compile(rf"([{_UNSPACED}]+)|({_WORD}+)")
_QUOTES = re.compile('["\u201c\u201d\u201e\uff02\u300c\u300d]')


class _Folding(dict[int, str]):
    """Without case, width and accents, character by character, so that places can be found
    again; Japanese voice marks stay, since they make other words."""

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code))
        bare = "".join(part for part in parts if not "\u0300" <= part <= "\u036f")
        folded = unicodedata.normalize("NFKC", bare).casefold()
        self[code] = folded
        return folded


_FOLDING = _Folding()


def fold(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_FOLDING)


def terms(text: str) -> set[str]:
    """All terms of a text."""
    found: set[str] = set()
    for unspaced, word in _PIECES.findall(fold(text)):
        if word:
            found.add(word[:_TERM_CHARS])
        else:
            found.update(map("".join, pairwise(unspaced)))
            found.add(unspaced[-1])
    return found


def parts(text: str) -> Iterator[str]:
    """The text in pieces that the index can hold. They overlap, so that no word is cut."""
    yield text[:PART_CHARS]
    for start in range(PART_CHARS - _PART_OVERLAP, len(text) - _PART_OVERLAP, PART_CHARS):
        yield text[start : start + PART_CHARS + _PART_OVERLAP]


@dataclass(frozen=True)
class Query:
    """``whole`` and ``prefixes`` are the terms that a text must have; ``patterns`` decide."""

    whole: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()
    patterns: tuple[re.Pattern[str], ...] = ()

    def find(self, text: str) -> list[tuple[int, int]] | None:
        """Where in ``text`` its matches stand, sorted and apart; None if one is missing."""
        folded = fold(text)
        spans: list[tuple[int, int]] = []
        for pattern in self.patterns:
            found = [match.span() for match in pattern.finditer(folded)]
            if not found:
                return None
            spans += found
        return _in_source(text, _joined(spans))


def parse(text: str) -> Query:
    """Words must all be there, in any order; what stands in quotes, or clings together as in
    ``foo_bar``, must follow each other. The last word may be a beginning. Nothing is an error."""
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
    """Pieces of one unit behind each other, with nothing but punctuation between."""
    text = ""
    for number, (unspaced, word) in enumerate(unit):
        if number:
            # Two words need something between them; a change of script is something.
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
    """Places in the folded text as places in the text."""
    if text.isascii():
        return spans
    ends = list(accumulate(len(_FOLDING[ord(character)]) for character in text))
    return [
        # Marks that fold to nothing belong to the character before them.
        (bisect_right(ends, start), max(bisect_right(ends, end - 1) + 1, bisect_right(ends, end)))
        for start, end in spans
    ]
