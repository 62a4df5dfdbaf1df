"""Latency of a model's requests by stage, for `/metrics`."""

from __future__ import annotations

import bisect
from typing import Final

import msgspec

from chatsite.engine.contract.messages import Usage

# Seconds; longer durations are counted in a last bucket.
BOUNDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class Histogram(msgspec.Struct, frozen=True):
    """Counts of requests by duration.

    ``counts`` of requests that took up to each of `BOUNDS` but more than the one before, then of
    longer ones; ``sum`` in seconds.
    """

    counts: tuple[int, ...]
    sum: float


class Latency:
    """Histograms by stage.

    ``queue`` is the wait for a slot, ``prefill`` from there to the first token, ``decode`` from
    there to the last one, ``first_text`` from queueing to the first text.
    """

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def add(self, usage: Usage, first_text_ms: float | None) -> None:
        stages = {"prefill": usage.prefill_ms, "decode": usage.decode_ms}
        if first_text_ms is not None:
            stages["first_text"] = first_text_ms
            stages["queue"] = max(0.0, first_text_ms - usage.prefill_ms)
        for stage, milliseconds in stages.items():
            seconds = milliseconds / 1000
            counts = self._counts.setdefault(stage, [0] * (len(BOUNDS) + 1))
            counts[bisect.bisect_left(BOUNDS, seconds)] += 1
            self._sums[stage] = self._sums.get(stage, 0.0) + seconds

    def histograms(self) -> dict[str, Histogram]:
        return {
            stage: Histogram(tuple(counts), round(self._sums[stage], 3))
            for stage, counts in self._counts.items()
        }
