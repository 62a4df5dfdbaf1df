"""Speculative decoding in the loop: what the next step verifies, and what is rolled back."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chatsite.engine.batching.running_sequence import RunningSequence, Sampled
from chatsite.engine.batching.scheduler import MIN_CHUNK, Scheduler
from chatsite.engine.batching.slots import SlotPool
from chatsite.engine.batching.speculation import choose
from chatsite.engine.batching.speed import SpeedMeter
from chatsite.engine.contract.backend import Backend


class SpeculativeDecoder:
    """Drafts tokens for the sequences of one engine."""

    def __init__(
        self,
        backend: Backend,
        scheduler: Scheduler,
        slots: SlotPool,
        speed: SpeedMeter,
        *,
        step_target_ms: float,
    ) -> None:
        facts = backend.facts
        self._vocabulary = backend.vocabulary
        self._context = facts.context
        self._rows = facts.max_rows - MIN_CHUNK
        # Wrong drafts must be truncated from the KV cache.
        self._possible = facts.supports_truncation
        self._scheduler = scheduler
        self._slots = slots
        self._speed = speed
        self._target_ms = step_target_ms

    def guess(self, sequences: Mapping[str, RunningSequence]) -> None:
        """Give decoding sequences a draft for the next step, where that pays."""
        decoding = self._scheduler.decoding if self._possible else []
        # A request that waits for its first token needs the step's time more.
        free = not self._scheduler.prefilling
        candidates = [
            sequences[id].guess(self._vocabulary, self._context) for id in decoding if free
        ]
        chosen = choose(
            candidates,
            len(decoding),
            self._speed,
            rows=self._rows - len(decoding),
            target_ms=self._target_ms,
        )
        for id in decoding:
            sequence = sequences[id]
            length = 0 if sequence.faults else chosen.get(id, 0)
            sequence.hunch = sequence.draft[0] if sequence.draft and not length else None
            del sequence.draft[length:]
            self._scheduler.draft(id, length)

    def settle(
        self, sampled: Collection[Sampled], sequences: Mapping[str, RunningSequence]
    ) -> None:
        """Record which drafted tokens of a step were right, and truncate the rest."""
        for one in sampled:
            sequence, right = one.sequence, len(one.tokens) - 1
            if one.drafted:
                sequence.acceptance.record(one.drafted, right)
            elif sequence.hunch is not None:
                sequence.acceptance.record(1, int(one.tokens[0] == sequence.hunch))
            sequence.drafted += one.drafted
            sequence.accepted += right
            sequence.draft = []
            slot = sequence.slot
            if one.drafted > right and slot is not None:
                self._slots.rewind(slot, len(slot.tokens) - (one.drafted - right))
                if sequence.id in sequences:
                    self._scheduler.restart(sequence.id, sequence.pending)
