"""What one engine step computes. Pure: no clock, no I/O, no threads, no model.

Each sequence with a slot has ``pending`` tokens that are not in the KV memory yet: one for a
sequence that is decoding (the token sampled last; more with drafts), the rest of the prompt for
one that is prefilling. A step decodes all that can decode, and fills what time is left until
the step target with prompt chunks, shortest remaining prompt first.

Ageing: every prompt token that others prefill while a sequence waits counts against its own
length, so a prompt of n tokens is overtaken by n tokens at most, and none starves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

# Smaller chunks cost more than a tenth of the prefill speed. The least that a step prefills.
MIN_CHUNK = 16


class Speed(Protocol):
    """What steps cost, measured by the caller; see `speed.py`."""

    def decode_ms(self, sequences: int) -> float: ...

    @property
    def prefill_tokens_per_ms(self) -> float: ...


@dataclass(slots=True)
class Work:
    """What the scheduler knows of a sequence that has a slot. ``started`` orders by start."""

    id: str
    slot: int
    pending: int
    started: int
    decoding: bool = False
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """``count`` pending tokens of a sequence; ``outputs`` as in `backend.Chunk`."""

    id: str
    slot: int
    count: int
    outputs: int


class Scheduler:
    def __init__(self, *, max_rows: int, step_target_ms: float) -> None:
        self._max_rows = max_rows
        self._target_ms = step_target_ms
        self._waiting: deque[str] = deque()
        self._running: dict[str, Work] = {}
        self._started = 0

    # Who waits and who runs.

    @property
    def idle(self) -> bool:
        return not self._running and not self._waiting

    @property
    def next_waiting(self) -> str | None:
        """First come, first served: the queue in front of the engine already was fair."""
        return self._waiting[0] if self._waiting else None

    def enqueue(self, id: str, *, first: bool = False) -> None:
        if first:
            self._waiting.appendleft(id)
        else:
            self._waiting.append(id)

    def start(self, id: str, slot: int, pending: int) -> None:
        """``id``, the next waiting one, got a slot and has ``pending`` tokens to prefill."""
        self._waiting.remove(id)
        self._started += 1
        self._running[id] = Work(id, slot, pending, self._started)

    def remove(self, id: str) -> None:
        """The sequence ended, was cancelled, or lost its slot."""
        if self._running.pop(id, None) is None and id in self._waiting:
            self._waiting.remove(id)

    # Steps.

    def plan(self, speed: Speed) -> tuple[Part, ...]:
        """The parts of the next step in the order of their slots: llama.cpp computes rows of
        different slots together only while the slots rise one by one."""
        decoding = [work for work in self._running.values() if work.decoding]
        parts = [Part(work.id, work.slot, work.pending, work.pending) for work in decoding]
        budget = self._prefill_budget(speed, len(decoding), sum(part.count for part in parts))
        parts += self._prefill(budget)
        return tuple(sorted(parts, key=lambda part: part.slot))

    def computed(self, parts: Collection[Part]) -> None:
        """The step was computed: what it prefilled is no longer pending, and whom it passed
        over has aged."""
        prefilled = 0
        for part in parts:
            work = self._running[part.id]
            if not work.decoding:
                prefilled += part.count
            work.pending -= part.count
        chosen = {part.id for part in parts}
        for work in self._running.values():
            if work.id not in chosen:
                work.passed += prefilled

    def sampled(self, id: str, tokens: int = 1) -> None:
        """``tokens`` new tokens wait to be decoded."""
        work = self._running[id]
        work.pending, work.decoding = tokens, True

    def restart(self, id: str, pending: int) -> None:
        """The sequence lost memory: ``pending`` of its tokens must be computed again."""
        work = self._running[id]
        work.pending = pending
        work.decoding = work.decoding and pending == 1

    def victim(self) -> str | None:
        """Who gives up its slot when the KV memory is full: the last to start, since it waited
        least and has the least to compute again. None when it would be the only one."""
        if len(self._running) < 2:
            return None
        return max(self._running.values(), key=lambda work: work.started).id

    def _prefill_budget(self, speed: Speed, sequences: int, rows: int) -> int:
        spare_ms = self._target_ms - speed.decode_ms(sequences)
        by_time = int(spare_ms * speed.prefill_tokens_per_ms)
        return min(max(by_time, MIN_CHUNK), self._max_rows - rows)

    def _prefill(self, budget: int) -> list[Part]:
        waiting = [work for work in self._running.values() if not work.decoding]
        waiting.sort(key=lambda work: (work.pending - work.passed, work.started))
        parts = []
        for work in waiting:
            if budget <= 0:
                break
            count = min(work.pending, budget)
            parts.append(Part(work.id, work.slot, count, int(count == work.pending)))
            budget -= count
        return parts
