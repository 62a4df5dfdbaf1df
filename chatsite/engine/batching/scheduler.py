"""Decides what one engine step computes. Pure: no clock, no I/O, no threads, no model.

Each sequence with a slot has ``pending`` tokens that are not in the KV cache yet: one while
decoding (the token sampled last; more with drafted tokens), the rest of the prompt while
prefilling. A step decodes every decoding sequence, and fills the time left until the step target
with prompt chunks (up to twice as large for a long prompt while no sequence decodes). Prefill
order: chats before API requests before background work, the first prompt of each owner before any
owner's second, then the shortest remaining prompt.

Aging: each prompt token that other sequences prefill while a sequence waits is subtracted from its
own length. A sequence that has been passed over by as many tokens as it has pending goes next. So
about n tokens overtake a prompt of n tokens, whatever arrives, and no sequence starves. Background
work never overtakes other work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from chatsite.engine.contract.messages import BACKGROUND

# Minimum prefill of a step, in tokens. Smaller chunks lose more than a tenth of the prefill speed.
MIN_CHUNK = 16
# While no sequence decodes, no stream sees a gap, so a prompt that takes several steps gets this
# many budgets per step, and at least this many tokens: larger chunks are faster, on a slow machine
# by a third.
_ALONE = 2
_ALONE_CHUNK = 32
# Fraction of a budget by which the last chunk of a prompt may exceed it where that saves a step.
_STRETCH = 0.15


class Speed(Protocol):
    """Measured cost of steps; implemented in `speed.py`."""

    def decode_ms(self, sequences: int) -> float: ...

    @property
    def prefill_tokens_per_ms(self) -> float: ...


@dataclass(slots=True)
class SequenceState:
    """Scheduling state of a sequence that has a slot.

    ``started`` is the start order. ``passed`` counts the tokens that others prefilled meanwhile.
    ``most`` limits the prompt tokens computed per step; None: as many as fit.
    """

    id: str
    slot: int
    pending: int
    started: int
    owner: str = ""
    priority: int = 0
    decoding: bool = False
    passed: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class ScheduledChunk:
    """``count`` pending tokens of a sequence; ``outputs`` as in `backend.Chunk`."""

    id: str
    slot: int
    count: int
    outputs: int


class Scheduler:
    """Orders waiting and running sequences and plans steps of at most ``max_rows`` tokens."""

    def __init__(self, *, max_rows: int, step_target_ms: float) -> None:
        self._max_rows = max_rows
        self._target_ms = step_target_ms
        self._waiting: dict[str, int] = {}  # id to priority, in arrival order
        self._running: dict[str, SequenceState] = {}
        self._started = 0

    # Waiting and running sequences.

    @property
    def idle(self) -> bool:
        return not self._running and not self._waiting

    @property
    def waiting(self) -> list[str]:
        """Return the waiting IDs: by priority, then first come, first served.

        Fairness between owners is left to the queue in front of the engine.
        """
        return sorted(self._waiting, key=self._waiting.__getitem__)

    @property
    def decoding(self) -> list[str]:
        """Return the IDs of sequences that wait for their next token."""
        return [work.id for work in self._running.values() if work.decoding]

    @property
    def prefilling(self) -> list[str]:
        return [work.id for work in self._running.values() if not work.decoding]

    def enqueue(self, id: str, *, priority: int = 0, first: bool = False) -> None:
        if first:
            self._waiting = {id: priority, **self._waiting}
        else:
            self._waiting[id] = priority

    def start(
        self, id: str, slot: int, pending: int, owner: str = "", *, most: int | None = None
    ) -> None:
        """Record that waiting sequence ``id`` got a slot, with ``pending`` tokens to prefill."""
        priority = self._waiting.pop(id)
        self._started += 1
        self._running[id] = SequenceState(
            id, slot, pending, self._started, owner, priority, most=most
        )

    def remove(self, id: str) -> None:
        """Remove a sequence that ended, was cancelled or lost its slot."""
        if self._running.pop(id, None) is None:
            self._waiting.pop(id, None)

    # Steps.

    def draft(self, id: str, tokens: int) -> None:
        """Decode ``tokens`` drafted tokens behind the last token of a decoding sequence."""
        self._running[id].pending = 1 + tokens

    def plan(self, speed: Speed) -> tuple[ScheduledChunk, ...]:
        """Return the chunks of the next step, ordered by slot.

        llama.cpp computes rows of different slots together only while the slot numbers are
        consecutive.
        """
        decoding = [work for work in self._running.values() if work.decoding]
        parts = [
            ScheduledChunk(work.id, work.slot, work.pending, work.pending) for work in decoding
        ]
        rows = sum(part.count for part in parts)
        budget = self._prefill_budget(speed, len(decoding), rows)
        most = budget if decoding else max(_ALONE * budget, _ALONE_CHUNK)
        parts += self._prefill(budget, most, self._max_rows - rows)
        return tuple(sorted(parts, key=lambda part: part.slot))

    def computed(self, parts: Collection[ScheduledChunk]) -> None:
        """Record a computed step: its tokens are no longer pending, passed-over sequences age."""
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

    def sampled(self, id: str) -> None:
        """Record that a new token of the sequence waits to be decoded."""
        work = self._running[id]
        work.pending, work.decoding = 1, True

    def restart(self, id: str, pending: int) -> None:
        """Schedule ``pending`` tokens of a sequence again after its KV cache was cut."""
        work = self._running[id]
        work.pending = pending
        work.decoding = work.decoding and pending == 1

    def preemption_candidate(self) -> str | None:
        """Return the sequence to preempt when the KV cache is full, or None if it is the only one.

        Of the least urgent sequences it is the last to start: it has waited least and has the least
        to recompute.
        """
        if len(self._running) < 2:
            return None
        return max(self._running.values(), key=lambda work: (work.priority, work.started)).id

    def _prefill_budget(self, speed: Speed, sequences: int, rows: int) -> int:
        spare_ms = self._target_ms - speed.decode_ms(sequences)
        spare_ms -= (rows - sequences) / speed.prefill_tokens_per_ms
        return max(int(spare_ms * speed.prefill_tokens_per_ms), MIN_CHUNK)

    def _prefill(self, budget: int, most: int, rows: int) -> list[ScheduledChunk]:
        """Return prompt chunks of at most ``rows`` tokens in total.

        A prompt that takes more than one step is split into as few equal chunks as possible, of up
        to ``most`` tokens, and takes the whole budget: its first token comes at the end of a step,
        and each further chunk in a step costs llama.cpp another pass over the weights.
        """
        parts: list[ScheduledChunk] = []
        for work in self._prefill_order():
            if min(budget, rows) < (min(work.pending, MIN_CHUNK) if parts else 1):
                break
            size = budget if parts or work.pending <= budget else most
            steps = max(1, ceil(work.pending / size - _STRETCH))
            count = min(ceil(work.pending / steps), rows, work.most or rows)
            ends = count == work.pending
            parts.append(ScheduledChunk(work.id, work.slot, count, int(ends)))
            budget -= count
            rows -= count
            if not ends:
                break
        return parts

    def _prefill_order(self) -> list[SequenceState]:
        waiting = [work for work in self._running.values() if not work.decoding]
        waiting.sort(key=lambda work: (work.priority, work.pending - work.passed, work.started))
        turns: Counter[str] = Counter()
        order: dict[str, tuple[int, ...]] = {}
        for work in waiting:
            overdue = work.passed >= work.pending and work.priority < BACKGROUND
            turn = turns[work.owner]
            turns[work.owner] += 1
            left = work.pending - work.passed
            # Overdue sequences are ordered by start alone.
            rest = (work.started,) if overdue else (work.priority, turn, left, work.started)
            order[work.id] = (not overdue, *rest)
        return sorted(waiting, key=lambda work: order[work.id])
