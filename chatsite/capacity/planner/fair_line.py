"""The queue's order, as `answers/queue/lua/submit.lua` and `lease.lua` have it in Redis."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class FairLine(Generic[T]):
    """Start-time fair queueing between owners of one share; ties by arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, T]] = []
        self._clock = 0
        self._arrivals = 0
        # Owner to the virtual finish time of their last queued job, and how many they have queued.
        self._last: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, owner: int, job: T) -> None:
        last, queued = self._last.get(owner, (0, 0))
        finish = max(self._clock, last) + 1
        self._last[owner] = (finish, queued + 1)
        self._arrivals += 1
        heapq.heappush(self._heap, (finish, self._arrivals, owner, job))

    def take(self) -> T:
        """Return the next job. Raises `IndexError` if there is none."""
        finish, _, owner, job = heapq.heappop(self._heap)
        self._clock = max(self._clock, finish - 1)
        last, queued = self._last.pop(owner)
        if queued > 1:
            self._last[owner] = (last, queued - 1)
        if not self._heap:
            self._clock = 0
        return job
