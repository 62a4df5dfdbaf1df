"""The terms that passages are found by: those of `text_terms`, with English words as stems."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import snowballstemmer

from chatsite.text_terms import sequence

# Distinct words that a process remembers the stems of.
_REMEMBERED: Final = 50_000
# Names of files separate their words by these; "_" is part of words in texts.
_SEPARATORS: Final = re.compile(r"[/_.\-]+")
_english = snowballstemmer.stemmer("english")


def of(text: str) -> list[str]:
    """Return the terms of a text in their order, with repetitions."""
    return [_stem(term) if term.isascii() else term for term in sequence(text)]


def of_passage(name: str, heading: str, text: str) -> list[str]:
    """Return the terms of a passage, of its headings and of the name of its file."""
    return of(f"{_SEPARATORS.sub(' ', name)}\n{heading}\n{text}")


@lru_cache(_REMEMBERED)
def _stem(term: str) -> str:
    if not term.isalpha():
        return term
    stem: str = _english.stemWord(term)
    return stem
