"""Durations as users and Ollama's clients write them."""

from __future__ import annotations

import math
import re
from typing import Final

# Longer than any meaningful text, and short enough to be parsed in no time.
_MAX_CHARS: Final = 64
# A hundred years: practically unlimited for a server; longer ones could overflow dates.
MAX_SECONDS: Final = 100 * 365.25 * 24 * 3600.0
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(written: float | str) -> float:
    """Return ``300``, ``"5m"`` or ``"1h30m"`` in seconds, at most `MAX_SECONDS`.

    A negative duration means without limit. As in Ollama, a text needs a unit, except for ``"0"``.
    Raises `ValueError`.
    """
    if isinstance(written, int | float):
        return _bounded(written)
    if len(written) > _MAX_CHARS:
        raise ValueError(f"{written[:_MAX_CHARS]!r}… must look like 5m or 90s")
    sign, rest = (-1, written[1:]) if written.startswith("-") else (1, written)
    if rest == "0":
        return 0.0
    total, at = 0.0, 0
    while part := _PART.match(rest, at):
        total += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    if not rest or at < len(rest):
        raise ValueError(f"{written!r} must look like 5m or 90s")
    return _bounded(sign * total)


def _bounded(value: float) -> float:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer that is too large for a float
        finite = True
    if not finite:
        raise ValueError(f"{value!r} must look like 5m or 90s")
    return float(max(-MAX_SECONDS, min(MAX_SECONDS, value)))


def longer(a: float, b: float) -> float:
    """Return the longer of two durations, of which a negative one is without limit."""
    return -1.0 if min(a, b) < 0 else max(a, b)
