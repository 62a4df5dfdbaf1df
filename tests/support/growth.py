"""Checks how the cost of an operation grows with its input."""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMES = 8
# Linear work grows by about `_TIMES`, quadratic work by its square.
_MOST = 3 * _TIMES
# Shorter times are not measurable, and harmless.
_SHORT_SECONDS = 0.02


def assert_linear(work: Callable[[str], object], text: Callable[[int], str], size: int) -> None:
    """Fail if eight times the input takes much more than eight times the CPU time.

    ``text`` makes an input of about that many characters. An exception raised by ``work`` also
    counts as a result. The small input is chosen so that quadratic work is detected and cubic work
    ends.
    """
    small, large = _seconds(work, text(size)), _seconds(work, text(size * _TIMES))
    assert large < max(_SHORT_SECONDS, _MOST * small), f"{large:.3f} s after {small:.5f} s"


def _seconds(work: Callable[[str], object], text: str) -> float:
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        try:
            work(text)
        except (ValueError, LookupError):
            pass
        best = min(best, time.thread_time() - began)
        if best < _SHORT_SECONDS:
            break
    return best
