"""The engine loop: ``schedule → decode → sample → emit``, one thread, all requests at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from queue import Empty, SimpleQueue

from chatsite.engine.backend import Backend, BadParameters, Chunk, ComputeError, Decoded
from chatsite.engine.counters import Counters
from chatsite.engine.embedding import EmbedJob, EmbedQueue
from chatsite.engine.guesser import Guesser
from chatsite.engine.messages import (
    Cache,
    Cancel,
    Delta,
    Failed,
    Finished,
    FinishReason,
    Measured,
    Started,
    Step,
    ToHost,
)
from chatsite.engine.prompt import Prompt
from chatsite.engine.ram_tier import RamTier
from chatsite.engine.scheduler import MIN_CHUNK, Part, Scheduler
from chatsite.engine.sequence import Sampled, Sequence, draw
from chatsite.engine.slots import SlotPool, usable
from chatsite.engine.speed import SpeedMeter
from chatsite.engine.warm_up import warm_up

log = logging.getLogger(__name__)

# Failed steps in a row after which a sequence is given up.
MAX_FAULTS = 3
# Tokens of a common head that another sequence still has to prefill. Prompts are computed one
# after the other anyway, so waiting for the head costs next to nothing.
WORTH_WAITING = MIN_CHUNK

# What the reader thread hands over; None is the end.
Item = Prompt | EmbedJob | Cancel | Cache | Measured | Failed | None


class Engine:
    """``emit`` sends a frame to the host; ``clock`` is in seconds and only measures."""

    def __init__(
        self,
        backend: Backend,
        emit: Callable[[ToHost], None],
        *,
        step_target_ms: float,
        cache_bytes: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        facts = backend.facts
        self._backend = backend
        self._emit_frame = emit
        self._clock = clock
        self._context = facts.context
        tier = RamTier(cache_bytes)
        self._slots = SlotPool(backend.memory, facts.slots, can_cut=facts.can_cut, tier=tier)
        self._scheduler = Scheduler(max_rows=facts.max_rows, step_target_ms=step_target_ms)
        self._speed = SpeedMeter()
        self._counters = Counters()
        self._sequences: dict[str, Sequence] = {}
        self._guesser = Guesser(
            backend, self._scheduler, self._slots, self._speed, step_target_ms=step_target_ms
        )
        self._embedding = EmbedQueue(backend.embedder, emit, target_ms=step_target_ms, clock=clock)
        self._short_of_memory = False

    def run(self, inbox: SimpleQueue[Item]) -> None:
        """Steps while there is work, waits when there is none; returns at the end of input."""
        while self._receive(inbox):
            self.step()

    def step(self) -> None:
        parts = self._schedule()
        began = self._clock()
        if parts and self._decode(parts):
            with self._counters.model:
                sampled = self._sample(parts)
            self._measure(parts, began)
            self._emit(sampled)
            self._guesser.settle(sampled, self._sequences)
            self._counters.count(sampled)
        with self._counters.model:
            self._embedding.step((self._clock() - began) * 1e3 if parts else None)
        self._tell()

    # Requests.

    @property
    def idle(self) -> bool:
        return self._scheduler.idle and self._embedding.idle

    def submit(self, prompt: Prompt) -> None:
        if prompt.id in self._sequences:
            log.error("request %s is here already; the second one is ignored", prompt.id)
            return
        sequence = self._sequences[prompt.id] = Sequence(prompt)
        self._scheduler.enqueue(prompt.id, priority=prompt.priority)
        if sequence.full(self._context):  # by the text of an earlier attempt
            self._finish(sequence, "length")

    def embed(self, job: EmbedJob) -> None:
        self._embedding.submit(job)

    def cancel(self, id: str) -> None:
        """Between steps: the slot is free for the next one. Text that was held back is sent."""
        self._embedding.cancel(id)
        if sequence := self._sequences.get(id):
            if delta := sequence.delta(sequence.text.flush(cut=True), last=True):
                self._emit_frame(Step((delta,)))
            self._finish(sequence, "cancelled")

    def warm_up(self) -> None:
        warm_up(self._backend, self._speed, self._clock)

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
                case EmbedJob():
                    self.embed(item)
                case Cancel():
                    self.cancel(item.id)
                case Cache():
                    self._slots.tier.limit(item.bytes)
                case Failed() | Measured():
                    self._emit_frame(item)
                case None:
                    return False

    # The step.

    def _schedule(self) -> tuple[Part, ...]:
        """Gives slots to who waits, then plans. After a failed step its sequences are computed
        one at a time, which finds the one that makes it fail."""
        for id in self._scheduler.waiting:
            if self._short_of_memory or not self._slots.any_idle:
                break
            if not self._another_prefills_its_head(self._sequences[id]):
                self._start(self._sequences[id])
        self._guesser.guess(self._sequences)
        parts = self._scheduler.plan(self._speed)
        suspects = tuple(part for part in parts if self._sequences[part.id].faults)
        return suspects[:1] or parts

    def _another_prefills_its_head(self, sequence: Sequence) -> bool:
        """Whether a running sequence is about to compute what this one begins with: a copy of
        that is had for nothing once it is there."""
        wanted = sequence.wanted
        have = self._slots.prefix(wanted)
        for id in self._scheduler.prefilling:
            other = self._sequences[id]
            coming = usable(wanted, other.wanted)
            done = len(other.tokens) - other.pending
            if coming >= max(have, done) + WORTH_WAITING:
                return True
        return False

    def _start(self, sequence: Sequence) -> None:
        prompt = sequence.prompt
        if sequence.sampler is None and not self._prepare_sampler(sequence):
            return
        slot = self._slots.acquire(sequence.wanted)
        sequence.slot = slot
        self._scheduler.start(sequence.id, slot.index, sequence.pending, prompt.owner)
        if sequence.started is None:
            sequence.started = self._clock()
            sequence.cached = min(len(slot.tokens), sequence.prompt.prompt_tokens)
            self._counters.cached += sequence.cached
            self._emit_frame(
                Started(sequence.id, prompt.prompt_tokens, sequence.cached, prompt.left_out)
            )
            if prompt.opening:
                self._emit_frame(Step((Delta(sequence.id, prompt.opening, 0),)))

    def _prepare_sampler(self, sequence: Sequence) -> bool:
        tokens, length = sequence.tokens, sequence.prompt.prompt_tokens
        try:
            sequence.sampler = self._backend.sampler(
                sequence.prompt.params, tokens[:length], tokens[length:]
            )
        except BadParameters as error:
            self._forget(sequence)
            self._emit_frame(Failed(sequence.id, "request_refused", str(error)))
        return sequence.sampler is not None

    def _decode(self, parts: Collection[Part]) -> bool:
        chunks = []
        for part in parts:
            sequence, start = self._sequences[part.id], self._start_of(part)
            tokens = sequence.tokens[start : start + part.count]
            tokens += sequence.draft[: part.count - len(tokens)]
            chunks.append(Chunk(part.slot, start, tokens, part.outputs))
        with self._counters.model:
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

    def _sample(self, parts: Collection[Part]) -> list[Sampled]:
        """From the last row of each part; with guesses, row by row while they were right."""
        sampled, row = [], 0
        for part in parts:
            row += part.count
            sequence = self._sequences[part.id]
            if part.outputs and sequence.sampler is not None:
                try:
                    sampled.append(draw(sequence, sequence.sampler, row - part.outputs))
                except ComputeError as error:
                    self._fail(sequence, f"The model could not compute this answer: {error}.")
        return sampled

    def _measure(self, parts: Collection[Part], began: float) -> None:
        decoding = set(self._scheduler.decoding)
        counts = [part.count for part in parts if part.id in decoding]
        prefilled = sum(part.count for part in parts if part.id not in decoding)
        seconds = self._clock() - began
        self._speed.record(
            len(counts),
            prefilled,
            seconds * 1e3,
            drafted=sum(counts) - len(counts),
            passes=len(set(counts)),
        )
        self._counters.steps += 1
        self._counters.step_seconds += seconds
        self._counters.prefilled += prefilled

    def _emit(self, sampled: Collection[Sampled]) -> None:
        """All text of the step in one frame, then the ends."""
        now = self._clock()
        deltas: list[Delta] = []
        ended: list[tuple[Sequence, FinishReason]] = []
        for one in sampled:
            sequence, text, reason = one.sequence, "", None
            if sequence.first_token is None:
                sequence.first_token = now
            for token, logprob in zip(one.tokens, one.logprobs, strict=True):
                if logprob is not None and token not in self._backend.vocabulary.ends:
                    sequence.logprobs.append(logprob)
                more, reason = sequence.take(token, self._backend.vocabulary, self._context)
                text += more
                if reason:
                    break
            if delta := sequence.delta(text, last=reason is not None):
                deltas.append(delta)
            if reason:
                ended.append((sequence, reason))
            else:
                self._scheduler.sampled(sequence.id)
        if deltas:
            self._emit_frame(Step(tuple(deltas)))
        for sequence, reason in ended:
            self._finish(sequence, reason)

    def _tell(self) -> None:
        """Counts of all steps so far, now and then and when there is nothing left to do."""
        if self._counters.due(self._clock()) or self.idle:
            self._emit_frame(
                self._counters.stats(
                    running=len(self._scheduler.decoding) + len(self._scheduler.prefilling),
                    waiting=len(self._scheduler.waiting),
                    saved_bytes=self._slots.tier.bytes,
                    restored=self._slots.restored,
                )
            )

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
            sequence.draft = []
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
            self._slots.give_up(sequence.slot)
            sequence.slot, sequence.draft = None, []
        self._scheduler.remove(victim)
        self._scheduler.enqueue(victim, priority=sequence.prompt.priority, first=True)
        self._short_of_memory = True
