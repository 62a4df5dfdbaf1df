"""Detects an answer that repeats itself endlessly.

Only exact repetition counts: the last tokens are one period, over and over. Tables, code, numbered
lists and JSON differ from row to row, and a refrain comes back a few times; a runaway answer
repeats the same tokens until it hits a limit. What a user may ask for ("write this 50 times") stays
below the thresholds: a run of ``_LEAST_RUN`` tokens, and of `_PERIODS` periods up to ``_MOST_RUN``
tokens. So a phrase of 10 tokens is stopped after 102 repetitions, a line of 30 after 64, a
paragraph of 300 after 7.

The cost per token is constant: one comparison, and every ``_EVERY`` tokens a search of bounded
length. Pure: no clock, no model.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

_LEAST_RUN: Final = 1024
_MOST_RUN: Final = 2048
_PERIODS: Final = 64
_LONGEST_PERIOD: Final = 512
# Prime, so that successive checks end at different places of nearly all periods.
_EVERY: Final = 31
# Length of the suffix that must have occurred one period before, in tokens.
_NEEDLE: Final = 16
# Candidate periods per check; a text within its period repeats the needle a few times at most.
_TRIALS: Final = 16
_ITEM: Final = array("i").itemsize


class RepetitionDetector:
    """Checks one sequence's tokens from ``start`` on.

    Repetition in the prompt or in an earlier attempt does not count.
    """

    __slots__ = ("_next", "_start")

    def __init__(self, start: int) -> None:
        self._start = start
        self._next = start + _LEAST_RUN

    def repeats(self, tokens: Sequence[int]) -> bool:
        """Return whether ``tokens`` end in a run that is long enough to stop.

        Call after each token.
        """
        if len(tokens) < self._next:
            return False
        self._next = len(tokens) + _EVERY
        return find_period(tokens, len(tokens) - self._start) is not None


def find_period(tokens: Sequence[int], count: int) -> int | None:
    """Return the period of a long enough run at the end of ``tokens``, or None.

    Only the last ``count`` tokens are considered.
    """
    window = array("i", tokens[-min(count, _LONGEST_PERIOD + _NEEDLE) :]).tobytes()
    needle, end = window[-_NEEDLE * _ITEM :], len(window) - 1
    for _ in range(_TRIALS):
        at = window.rfind(needle, 0, end)
        if at < 0:
            return None
        end = at + len(needle) - 1
        period, misaligned = divmod(len(window) - len(needle) - at, _ITEM)
        if not misaligned and is_periodic(tokens, count, period):
            return period
    return None


def is_periodic(tokens: Sequence[int], count: int, period: int) -> bool:
    """Return whether the last ``count`` tokens end in a long enough run of this period."""
    run = max(_LEAST_RUN, min(_PERIODS * period, _MOST_RUN))
    return count >= run + period and tokens[-run:] == tokens[-run - period : -period]
