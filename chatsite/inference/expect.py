"""How long one waits for a slot, from what answers of the model took lately: pure."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence

# What somebody asks now will be served as the last ones were, not as those of last week.
_RECENT = 24
# Fewer say nothing.
_LEAST = 3
# Lines that are played through, and how far; the first to get free of several slots is sooner
# than the mean of each, so means alone would say too much.
_DRAWS = 40
_PLACES = 32


class Occupancy:
    """Seconds for which recent answers had their slots."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_RECENT)
        # Of slots that are all free, which is told every second of a quiet night.
        self._idle: dict[int, tuple[float, ...]] = {}

    def add(self, seconds: float) -> None:
        self._durations.append(seconds)
        self._idle.clear()

    @property
    def typical(self) -> float | None:
        """The mean; None while too few were measured."""
        if len(self._durations) < _LEAST:
            return None
        return sum(self._durations) / len(self._durations)

    def _left(self, age: float) -> list[float]:
        """What answers took beyond ``age`` that took longer. One that takes longer than all may
        take as much again as any of them."""
        longer = [duration - age for duration in self._durations if duration > age]
        return longer or list(self._durations)

    def openings(self, ages: Sequence[float], slots: int) -> tuple[float, ...]:
        """Seconds after which the slots get free for those in line, one after another; those
        with ``ages`` are taken now. Empty while nothing can be said."""
        if self.typical is None:
            return ()
        if ages:
            return self._played(ages, slots)
        if slots not in self._idle:
            self._idle[slots] = self._played((), slots)
        return self._idle[slots]

    def _played(self, ages: Sequence[float], slots: int) -> tuple[float, ...]:
        chance = random.Random(0)  # noqa: S311 (the same line looks the same a second later)
        left = [self._left(age) for age in ages]
        sums = [0.0] * _PLACES
        for _ in range(_DRAWS):
            free = [chance.choice(rest) for rest in left] + [0.0] * (slots - len(left))
            heapq.heapify(free)
            for place, taken in enumerate(chance.choices(self._durations, k=_PLACES)):
                sums[place] += free[0]
                heapq.heapreplace(free, free[0] + taken)
        return tuple(round(total / _DRAWS, 1) for total in sums)


def seconds_in_line(hosts: Sequence[tuple[Sequence[float], float]], ahead: int) -> float | None:
    """When the one that has ``ahead`` others before it gets a slot. ``hosts`` are their openings
    and the seconds between two of them further on. None without any."""
    openings = sorted(opening for known, _ in hosts for opening in known)
    if not openings:
        return None
    beyond = ahead - len(openings) + 1
    if beyond <= 0:
        return openings[ahead]
    return openings[-1] + beyond / sum(1 / step for _, step in hosts if step > 0)
