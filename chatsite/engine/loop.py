"""The engine loop: ``schedule → decode → sample → emit``, one thread, all requests at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from queue import Empty, SimpleQueue

from chatsite.engine.backend import Backend, Chunk, Decoded
from chatsite.engine.messages import (
    Cancel,
    Delta,
    Failed,
    Finished,
    FinishReason,
    Started,
    Step,
    ToHost,
)
from chatsite.engine.prompt import Prompt
from chatsite.engine.scheduler import Part, Scheduler
from chatsite.engine.sequence import Sequence
from chatsite.engine.slots import SlotPool
from chatsite.engine.speed import SpeedMeter

log = logging.getLogger(__name__)

# Failed steps in a row after which a sequence is given up.
MAX_FAULTS = 3

# What the reader thread hands over; None is the end.
Item = Prompt | Cancel | Failed | None


class Engine:
    """``emit`` sends a frame to the host; ``clock`` is in seconds and only measures."""

    def __init__(
        self,
        backend: Backend,
        emit: Callable[[ToHost], None],
        *,
        step_target_ms: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        facts = backend.facts
        self._backend = backend
        self._emit_frame = emit
        self._clock = clock
        self._context = facts.context
        self._slots = SlotPool(backend.memory, facts.slots, can_cut=facts.can_cut)
        self._scheduler = Scheduler(max_rows=facts.max_rows, step_target_ms=step_target_ms)
        self._speed = SpeedMeter()
        self._sequences: dict[str, Sequence] = {}
        self._short_of_memory = False

    def run(self, inbox: SimpleQueue[Item]) -> None:
        """Steps while there is work, waits when there is none; returns at the end of input."""
        while self._receive(inbox):
            self.step()

    def step(self) -> None:
        parts = self._schedule()
        began = self._clock()
        if parts and self._decode(parts):
            tokens = self._sample(parts)
            self._measure(parts, began)
            self._emit(tokens)

    # Requests.

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    def submit(self, prompt: Prompt) -> None:
        if prompt.id in self._sequences:
            log.error("request %s is here already; the second one is ignored", prompt.id)
            return
        sequence = self._sequences[prompt.id] = Sequence(prompt)
        self._scheduler.enqueue(prompt.id)
        if sequence.full(self._context):  # by the text of an earlier attempt
            self._finish(sequence, "length")

    def cancel(self, id: str) -> None:
        """Between steps: the slot is free for the next one. Text that was held back is sent."""
        if sequence := self._sequences.get(id):
            if delta := sequence.delta(sequence.text.flush(cut=True)):
                self._emit_frame(Step((delta,)))
            self._finish(sequence, "cancelled")

    def warm_up(self) -> None:
        """Computes a little, so that the first request finds weights in memory and speeds
        known, and a build that can't compute fails before it is called loaded."""
        tokens = min(48, self._context // 4)
        sample = self._backend.vocabulary.tokenize("The quick brown fox. " * 20, special=False)
        for start, count, sequences in ((0, tokens, 0), (tokens, tokens, 0), (tokens * 2, 1, 1)):
            began = self._clock()
            chunk = Chunk(0, start, sample[:count], 1)
            if (outcome := self._backend.decode([chunk])) is not Decoded.OK:
                raise RuntimeError(f"the first computation failed: {outcome.value}")
            if start:
                prefilled = 0 if sequences else len(chunk.tokens)
                self._speed.record(sequences, prefilled, (self._clock() - began) * 1e3)
        self._backend.memory.clear(0)

    def _receive(self, inbox: SimpleQueue[Item]) -> bool:
        """Takes all that arrived; blocks for it when there is nothing to compute."""
        while True:
            try:
                item = inbox.get(block=self.idle)
            except Empty:
                return True
            match item:
                case Prompt():
                    self.submit(item)
                case Cancel():
                    self.cancel(item.id)
                case Failed():
                    self._emit_frame(item)
                case None:
                    return False

    # The step.

    def _schedule(self) -> tuple[Part, ...]:
        """Gives slots to who waits, then plans. After a failed step its sequences are computed
        one at a time, which finds the one that makes it fail."""
        while (id := self._scheduler.next_waiting) and self._slots.any_idle:
            if self._short_of_memory:
                break
            self._start(self._sequences[id])
        parts = self._scheduler.plan(self._speed)
        suspects = tuple(part for part in parts if self._sequences[part.id].faults)
        return suspects[:1] or parts

    def _start(self, sequence: Sequence) -> None:
        slot = self._slots.acquire(sequence.prompt.owner, sequence.tokens)
        sequence.slot = slot
        self._scheduler.start(sequence.id, slot.index, sequence.pending)
        if sequence.started is None:
            sequence.started = self._clock()
            sequence.cached = min(len(slot.tokens), sequence.prompt.prompt_tokens)
            sequence.sampler = self._backend.sampler(sequence.prompt.params, sequence.tokens)
            self._emit_frame(Started(sequence.id, sequence.prompt.prompt_tokens, sequence.cached))

    def _decode(self, parts: Collection[Part]) -> bool:
        chunks = []
        for part in parts:
            tokens, start = self._sequences[part.id].tokens, self._start_of(part)
            chunks.append(Chunk(part.slot, start, tokens[start : start + part.count], part.outputs))
        outcome = self._backend.decode(chunks)
        if outcome is not Decoded.OK:
            self._recover(outcome, parts)
            return False
        for part, chunk in zip(parts, chunks, strict=True):
            self._slots.slots[part.slot].tokens.extend(chunk.tokens)
            self._sequences[part.id].faults = 0
        self._scheduler.computed(parts)
        return True

    def _start_of(self, part: Part) -> int:
        return len(self._slots.slots[part.slot].tokens)

    def _sample(self, parts: Collection[Part]) -> list[tuple[Sequence, int]]:
        sampled, row = [], 0
        for part in parts:
            row += part.count
            sequence = self._sequences[part.id]
            if part.outputs and sequence.sampler is not None:
                sampled.append((sequence, sequence.sampler.sample(row - 1)))
        return sampled

    def _measure(self, parts: Collection[Part], began: float) -> None:
        decoding = sum(1 for part in parts if part.count == part.outputs)
        prefilled = sum(part.count for part in parts if part.count > part.outputs)
        self._speed.record(decoding, prefilled, (self._clock() - began) * 1e3)

    def _emit(self, sampled: Collection[tuple[Sequence, int]]) -> None:
        """All text of the step in one frame, then the ends."""
        now = self._clock()
        deltas: list[Delta] = []
        ended: list[tuple[Sequence, FinishReason]] = []
        for sequence, token in sampled:
            if sequence.first_token is None:
                sequence.first_token = now
            text, reason = sequence.take(token, self._backend.vocabulary, self._context)
            if delta := sequence.delta(text):
                deltas.append(delta)
            if reason:
                ended.append((sequence, reason))
            else:
                self._scheduler.sampled(sequence.id)
        if deltas:
            self._emit_frame(Step(tuple(deltas)))
        for sequence, reason in ended:
            self._finish(sequence, reason)

    # Ends and failures.

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._forget(sequence)
        self._emit_frame(Finished(sequence.id, reason, sequence.usage(self._clock())))

    def _fail(self, sequence: Sequence, message: str) -> None:
        log.error("request %s failed: %s", sequence.id, message)
        if sequence.slot:
            self._slots.clear(sequence.slot)
        self._forget(sequence)
        self._emit_frame(Failed(sequence.id, "engine_error", message))

    def _forget(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence.id)
        del self._sequences[sequence.id]
        if sequence.slot:
            self._slots.release(sequence.slot)
        if sequence.sampler is not None:
            sequence.sampler.close()
        self._short_of_memory = False

    def _recover(self, outcome: Decoded, parts: Collection[Part]) -> None:
        """Nothing of a failed step counts. What it left in the KV memory is undone."""
        log.warning("a step of %d sequences failed: %s", len(parts), outcome.value)
        if outcome is Decoded.NO_SPACE:
            self._make_space(parts)
            return
        for part in parts:
            sequence = self._sequences[part.id]
            slot = self._slots.slots[part.slot]
            sequence.faults += 1
            if sequence.faults >= MAX_FAULTS:
                self._fail(sequence, f"The model could not compute this answer: {outcome.value}.")
            else:
                self._slots.rewind(slot, len(slot.tokens))
                self._scheduler.restart(sequence.id, sequence.pending)

    def _make_space(self, parts: Collection[Part]) -> None:
        """First what nobody computes with, then the sequence that started last: it goes back
        to the head of the line until another one ends, and its text goes on later."""
        if self._slots.evict():
            return
        if (victim := self._scheduler.victim()) is None:
            for part in parts:
                self._fail(self._sequences[part.id], "The model's memory is too small for this.")
            return
        sequence = self._sequences[victim]
        log.info("request %s gives up its slot for the others", victim)
        if sequence.slot:
            self._slots.clear(sequence.slot)
            self._slots.release(sequence.slot)
            sequence.slot = None
        self._scheduler.remove(victim)
        self._scheduler.enqueue(victim, first=True)
        self._short_of_memory = True
