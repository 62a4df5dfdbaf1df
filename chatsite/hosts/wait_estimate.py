"""The estimated wait for a slot, from the durations of the model's recent answers. Pure."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence

# Recent answers predict the next ones better than those of last week.
_RECENT = 24
# The fewest durations that give an estimate.
_LEAST = 3
# Simulated queues, and queued requests in each. The first of several slots becomes free sooner
# than the mean of each, so means alone would overestimate.
_DRAWS = 40
_PLACES = 32


class Occupancy:
    """Seconds for which recent answers held their slots."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_RECENT)
        # Cached for the case that all slots are free, since the status is announced every second.
        self._idle: dict[int, tuple[float, ...]] = {}

    def add(self, seconds: float) -> None:
        self._durations.append(seconds)
        self._idle.clear()

    @property
    def typical(self) -> float | None:
        """The mean in seconds; None while too few were measured."""
        if len(self._durations) < _LEAST:
            return None
        return sum(self._durations) / len(self._durations)

    def _left(self, age: float) -> list[float]:
        """Return the remaining seconds of those recent answers that took longer than ``age``.

        An answer older than all of them may take as long again as any of them.
        """
        longer = [duration - age for duration in self._durations if duration > age]
        return longer or list(self._durations)

    def openings(self, ages: Sequence[float], slots: int) -> tuple[float, ...]:
        """Return the estimated seconds until slots become free for queued requests, one by one.

        ``ages`` are the seconds for which running requests hold slots. Empty without an estimate.
        """
        if self.typical is None:
            return ()
        if ages:
            return self._played(ages, slots)
        if slots not in self._idle:
            self._idle[slots] = self._played((), slots)
        return self._idle[slots]

    def _played(self, ages: Sequence[float], slots: int) -> tuple[float, ...]:
        chance = random.Random(0)  # noqa: S311 (fixed seed: stable estimates)
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
    """Return the seconds until a request with ``ahead`` others before it gets a slot.

    ``hosts`` are their openings, and the seconds between two openings after those. None without
    openings.
    """
    openings = sorted(opening for known, _ in hosts for opening in known)
    if not openings:
        return None
    beyond = ahead - len(openings) + 1
    if beyond <= 0:
        return openings[ahead]
    return openings[-1] + beyond / sum(1 / step for _, step in hosts if step > 0)
