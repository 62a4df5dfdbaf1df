"""Guessing ahead in the loop: what the next step checks, and what of it must leave the memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chatsite.engine.backend import Backend
from chatsite.engine.scheduler import MIN_CHUNK, Scheduler
from chatsite.engine.sequence import Sampled, Sequence
from chatsite.engine.slots import SlotPool
from chatsite.engine.speculation import choose
from chatsite.engine.speed import SpeedMeter


class Guesser:
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
        # Wrong guesses must be cut out of the memory again.
        self._possible = facts.can_cut
        self._scheduler = scheduler
        self._slots = slots
        self._speed = speed
        self._target_ms = step_target_ms

    def guess(self, sequences: Mapping[str, Sequence]) -> None:
        """Gives sequences that decode a draft for the next step, where that pays."""
        decoding = self._scheduler.decoding if self._possible else []
        # Whoever waits for a first token needs the step's time more.
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

    def settle(self, sampled: Collection[Sampled], sequences: Mapping[str, Sequence]) -> None:
        """After a step: counts what was right, and cuts the rest."""
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
