"""What one engine step computes. Pure: no clock, no I/O, no threads, no model.

Each sequence with a slot has ``pending`` tokens that are not in the KV memory yet: one for a
sequence that is decoding (the token sampled last; more with guesses), the rest of the prompt for
one that is prefilling. A step decodes all that can decode, and fills what time is left until
the step target with prompt chunks (of a long prompt twice as much while nobody decodes): people's
chats before programs before background work, each owner's first prompt before anybody's second,
then the shortest remaining prompt.

Ageing: every prompt token that others prefill while a sequence waits counts against its own
length, and who has been passed by as many tokens as it has itself is next. So a prompt of n
tokens is overtaken by about n tokens, whatever comes, and none starves; but background work never
goes before anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from chatsite.engine.messages import BACKGROUND

# Smaller chunks cost more than a tenth of the prefill speed. The least that a step prefills.
MIN_CHUNK = 16
# While nobody decodes no stream has a gap, so a prompt that takes several steps may have so many
# budgets in each, and this many tokens at least: larger chunks are faster, on a slow machine by
# a third.
_ALONE = 2
_ALONE_CHUNK = 32
# Budgets by which the last share of a prompt may be too large, where that saves a step.
_STRETCH = 0.15


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
    owner: str = ""
    priority: int = 0
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
        self._waiting: dict[str, int] = {}  # priorities, in the order of arrival
        self._running: dict[str, Work] = {}
        self._started = 0

    # Who waits and who runs.

    @property
    def idle(self) -> bool:
        return not self._running and not self._waiting

    @property
    def waiting(self) -> list[str]:
        """First come, first served within a priority: the queue in front of the engine already
        was fair."""
        return sorted(self._waiting, key=self._waiting.__getitem__)

    @property
    def decoding(self) -> list[str]:
        """Sequences that wait for their next token."""
        return [work.id for work in self._running.values() if work.decoding]

    @property
    def prefilling(self) -> list[str]:
        return [work.id for work in self._running.values() if not work.decoding]

    def enqueue(self, id: str, *, priority: int = 0, first: bool = False) -> None:
        if first:
            self._waiting = {id: priority, **self._waiting}
        else:
            self._waiting[id] = priority

    def start(self, id: str, slot: int, pending: int, owner: str = "") -> None:
        """``id``, which waited, got a slot and has ``pending`` tokens to prefill."""
        priority = self._waiting.pop(id)
        self._started += 1
        self._running[id] = Work(id, slot, pending, self._started, owner, priority)

    def remove(self, id: str) -> None:
        """The sequence ended, was cancelled, or lost its slot."""
        if self._running.pop(id, None) is None:
            self._waiting.pop(id, None)

    # Steps.

    def draft(self, id: str, tokens: int) -> None:
        """``tokens`` guessed ones are decoded behind the last one of a decoding sequence."""
        self._running[id].pending = 1 + tokens

    def plan(self, speed: Speed) -> tuple[Part, ...]:
        """The parts of the next step in the order of their slots: llama.cpp computes rows of
        different slots together only while the slots rise one by one."""
        decoding = [work for work in self._running.values() if work.decoding]
        parts = [Part(work.id, work.slot, work.pending, work.pending) for work in decoding]
        rows = sum(part.count for part in parts)
        budget = self._prefill_budget(speed, len(decoding), rows)
        most = budget if decoding else max(_ALONE * budget, _ALONE_CHUNK)
        parts += self._prefill(budget, most, self._max_rows - rows)
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

    def sampled(self, id: str) -> None:
        """A new token waits to be decoded."""
        work = self._running[id]
        work.pending, work.decoding = 1, True

    def restart(self, id: str, pending: int) -> None:
        """The sequence lost memory: ``pending`` of its tokens must be computed again."""
        work = self._running[id]
        work.pending = pending
        work.decoding = work.decoding and pending == 1

    def victim(self) -> str | None:
        """Who gives up its slot when the KV memory is full: of the least urgent the last to
        start, since it waited least and has the least to compute again. None when it would be
        the only one."""
        if len(self._running) < 2:
            return None
        return max(self._running.values(), key=lambda work: (work.priority, work.started)).id

    def _prefill_budget(self, speed: Speed, sequences: int, rows: int) -> int:
        spare_ms = self._target_ms - speed.decode_ms(sequences)
        spare_ms -= (rows - sequences) / speed.prefill_tokens_per_ms
        return max(int(spare_ms * speed.prefill_tokens_per_ms), MIN_CHUNK)

    def _prefill(self, budget: int, most: int, rows: int) -> list[Part]:
        """A prompt that takes more than one step gets equal shares of as few as possible, of up
        to ``most`` tokens, and has them for itself: its first token comes at the end of a step,
        and each further part of one costs llama.cpp another pass over the weights."""
        parts: list[Part] = []
        for work in self._prefill_order():
            if min(budget, rows) < (min(work.pending, MIN_CHUNK) if parts else 1):
                break
            size = budget if parts or work.pending <= budget else most
            steps = max(1, ceil(work.pending / size - _STRETCH))
            count = min(ceil(work.pending / steps), rows)
            ends = count == work.pending
            parts.append(Part(work.id, work.slot, count, int(ends)))
            budget -= count
            rows -= count
            if not ends:
                break
        return parts

    def _prefill_order(self) -> list[Work]:
        waiting = [work for work in self._running.values() if not work.decoding]
        waiting.sort(key=lambda work: (work.priority, work.pending - work.passed, work.started))
        turns: Counter[str] = Counter()
        order: dict[str, tuple[int, ...]] = {}
        for work in waiting:
            overdue = work.passed >= work.pending and work.priority < BACKGROUND
            turn = turns[work.owner]
            turns[work.owner] += 1
            left = work.pending - work.passed
            # Who is overdue goes by age alone.
            rest = (work.started,) if overdue else (work.priority, turn, left, work.started)
            order[work.id] = (not overdue, *rest)
        return sorted(waiting, key=lambda work: order[work.id])
