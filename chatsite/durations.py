"""Lengths of time as people and Ollama's clients write them."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(written: float | str) -> float:
    """``300``, ``"5m"`` or ``"1h30m"`` in seconds; negative is for ever. As in Ollama, a text
    needs a unit, but for ``"0"``. Raises `ValueError`."""
    if isinstance(written, int | float):
        return float(written)
    sign, rest = (-1, written[1:]) if written.startswith("-") else (1, written)
    if rest == "0":
        return 0.0
    parts = _PART.findall(rest)
    if not parts or "".join(map("".join, parts)) != rest:
        raise ValueError(f"{written!r} is not like 5m or 90s")
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in parts)


def longer(a: float, b: float) -> float:
    """Of two lengths of which a negative one is for ever."""
    return -1.0 if min(a, b) < 0 else max(a, b)
