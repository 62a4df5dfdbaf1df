"""The engine loop: ``schedule → decode → sample → emit``, one thread for all requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from queue import Empty, SimpleQueue

from chatsite.engine.batching.counters import Counters
from chatsite.engine.batching.embedding import EmbedJob, EmbedQueue
from chatsite.engine.batching.host_kv_cache import HostKVCache
from chatsite.engine.batching.running_sequence import RunningSequence, Sampled, draw
from chatsite.engine.batching.scheduler import MIN_CHUNK, ScheduledChunk, Scheduler
from chatsite.engine.batching.slots import Slot, SlotPool, reusable_prefix_length
from chatsite.engine.batching.speculative_decoder import SpeculativeDecoder
from chatsite.engine.batching.speed import SpeedMeter
from chatsite.engine.batching.warm_up import warm_up
from chatsite.engine.contract.backend import (
    Backend,
    BadParameters,
    Chunk,
    ComputeError,
    ConstraintError,
    Decoded,
)
from chatsite.engine.contract.messages import (
    Cache,
    Cancel,
    Delta,
    DropCache,
    Failed,
    Finished,
    FinishReason,
    HoldBatches,
    Started,
    Step,
    ToHost,
    TokenCounts,
)
from chatsite.engine.prompting.prompt import Prompt
from chatsite.sandbox import log_lines

log = logging.getLogger(__name__)

# Consecutive failed steps after which a sequence fails.
MAX_FAULTS = 3
# Minimum tokens of a common prefix that another sequence still has to prefill. Prompts are computed
# one after the other anyway, so waiting for the prefix costs next to nothing.
WORTH_WAITING = MIN_CHUNK

# Tokens per step of a prompt whose log probabilities are requested: each row costs a pass over the
# vocabulary, about a millisecond for the largest.
SCORED_ROWS = MIN_CHUNK

# Handed over by the threads that read and prepare requests; None is the end of input.
Item = (
    Prompt
    | EmbedJob
    | Cancel
    | Cache
    | DropCache
    | HoldBatches
    | TokenCounts
    | Finished
    | Failed
    | None
)


class Engine:
    """Runs all requests of one model.

    ``emit`` sends a frame to the host. ``clock`` returns seconds and is used for measurement only.
    """

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
        tier = HostKVCache(cache_bytes)
        self._slots = SlotPool(
            backend.memory, facts.slots, supports_truncation=facts.supports_truncation, tier=tier
        )
        self._scheduler = Scheduler(max_rows=facts.max_rows, step_target_ms=step_target_ms)
        self._speed = SpeedMeter()
        self._counters = Counters()
        self._sequences: dict[str, RunningSequence] = {}
        self._speculation = SpeculativeDecoder(
            backend, self._scheduler, self._slots, self._speed, step_target_ms=step_target_ms
        )
        self._embedding = EmbedQueue(
            backend.embedder, emit, target_ms=step_target_ms, clock=clock, speed=self._speed
        )
        self._short_of_memory = False

    def run(self, inbox: SimpleQueue[Item]) -> None:
        """Run steps while there is work, block while idle, and return at the end of input."""
        while self._receive(inbox):
            self.step()

    def step(self) -> None:
        self._backend.begin_step()
        parts = self._schedule()
        began = self._clock()
        if parts and self._decode(parts):
            with self._counters.model:
                sampled = self._sample(parts)
            self._record_timing(parts, began)
            self._emit(sampled)
            self._speculation.settle(sampled, self._sequences)
            self._counters.count(sampled)
        with self._counters.model:
            self._embedding.step((self._clock() - began) * 1e3 if parts else None)
        self._send_stats()

    # Requests.

    @property
    def idle(self) -> bool:
        return self._scheduler.idle and self._embedding.idle

    @property
    def answering(self) -> bool:
        """Whether answers run or wait. Thread-safe."""
        return not self._scheduler.idle

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self._slots.slots

    @property
    def speed(self) -> SpeedMeter:
        return self._speed

    @property
    def sequences(self) -> Mapping[str, RunningSequence]:
        """Waiting and running requests, by ID."""
        return self._sequences

    def submit(self, prompt: Prompt) -> None:
        if prompt.id in self._sequences:
            log.error("Duplicate request ignored", extra={"run": prompt.id})
            return
        sequence = self._sequences[prompt.id] = RunningSequence(prompt)
        self._scheduler.enqueue(prompt.id, priority=prompt.priority)
        # An earlier attempt's text may fill the context.
        if sequence.full(self._context) and not sequence.scored:
            self._echo(sequence)
            self._finish(sequence, "length")

    def embed(self, job: EmbedJob) -> None:
        self._embedding.submit(job)

    def cancel(self, id: str) -> None:
        """Cancel a request between steps, and emit its held-back text.

        Its slot is free in the next step.
        """
        self._embedding.cancel(id)
        if sequence := self._sequences.get(id):
            if delta := sequence.delta(sequence.text.flush(cut=True), last=True):
                self._emit_frame(Step((delta,)))
            self._finish(sequence, "cancelled")

    def warm_up(self) -> None:
        warm_up(self._backend, self._speed, self._clock)

    def _receive(self, inbox: SimpleQueue[Item]) -> bool:
        """Take all items from ``inbox``, blocking only when idle.

        Return False at the end of input.
        """
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
                case HoldBatches():
                    self._embedding.hold_batches(item.held)
                case DropCache():
                    self._slots.drop_owner(item.owner)
                case Failed() | TokenCounts() | Finished():
                    self._emit_frame(item)
                case None:
                    return False

    # The step.

    def _schedule(self) -> tuple[ScheduledChunk, ...]:
        """Assign slots to waiting sequences, then plan the step.

        After a failed step its sequences are computed one at a time, which isolates the one that
        causes the failure.
        """
        for id in self._scheduler.waiting:
            if self._short_of_memory or not self._slots.any_idle:
                break
            if not self._prefix_is_being_prefilled(self._sequences[id]):
                self._start(self._sequences[id])
        self._speculation.guess(self._sequences)
        parts = self._scheduler.plan(self._speed)
        suspects = tuple(part for part in parts if self._sequences[part.id].faults)
        return suspects[:1] or parts

    def _prefix_is_being_prefilled(self, sequence: RunningSequence) -> bool:
        """Return whether a running sequence is about to prefill a prefix of this one.

        Once it is computed, copying it is nearly free.
        """
        wanted = sequence.prefix_query
        have = self._slots.prefix(wanted)
        for id in () if sequence.scored else self._scheduler.prefilling:
            other = self._sequences[id]
            coming = reusable_prefix_length(wanted, other.prefix_query)
            done = len(other.tokens) - other.pending
            if coming >= max(have, done) + WORTH_WAITING:
                return True
        return False

    def _start(self, sequence: RunningSequence) -> None:
        prompt = sequence.prompt
        if not self._prepare_sampler(sequence):
            return
        with log_lines.about(sequence.id):
            slot = self._slots.acquire(sequence.prefix_query)
        sequence.slot = slot
        if sequence.scored:
            # Every logit is needed, and the cache holds none.
            self._slots.rewind(slot, 0)
            sequence.scores = []
        self._scheduler.start(
            sequence.id,
            slot.index,
            sequence.pending,
            prompt.owner,
            most=SCORED_ROWS if sequence.scored else None,
        )
        if sequence.started is None:
            sequence.started = self._clock()
            sequence.cached = min(len(slot.tokens), sequence.prompt.prompt_tokens)
            self._counters.cached += sequence.cached
            self._emit_frame(
                Started(sequence.id, prompt.prompt_tokens, sequence.cached, prompt.left_out)
            )
            if prompt.opening:
                self._emit_frame(Step((Delta(sequence.id, prompt.opening, 0),)))
            if not sequence.scored:
                self._echo(sequence)

    def _echo(self, sequence: RunningSequence) -> None:
        """Emit the prompt ahead of the answer, with its log probabilities if requested."""
        if echo := sequence.prompt.echo:
            self._emit_frame(Step((Delta(sequence.id, echo, 0, tuple(sequence.scores)),)))

    def _prepare_sampler(self, sequence: RunningSequence) -> bool:
        """Return whether the sequence can start.

        If not, it has failed or is retried in the next step.
        """
        prompt, tokens = sequence.prompt, sequence.tokens
        try:
            if sequence.sampler is None:
                sequence.sampler = self._backend.sampler(
                    prompt.params,
                    tokens[: prompt.prompt_tokens],
                    tokens[prompt.prompt_tokens :],
                    owner=prompt.owner,
                    automaton=prompt.automaton,
                )
            return sequence.sampler.ready()
        except (BadParameters, ConstraintError) as error:
            self._refuse(sequence, str(error))
            return False

    def _decode(self, parts: Collection[ScheduledChunk]) -> bool:
        chunks = []
        for part in parts:
            sequence, start = self._sequences[part.id], self._start_of(part)
            tokens = sequence.tokens[start : start + part.count]
            tokens += sequence.draft[: part.count - len(tokens)]
            outputs = len(tokens) if sequence.scored else part.outputs
            chunks.append(Chunk(part.slot, start, tokens, outputs))
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

    def _start_of(self, part: ScheduledChunk) -> int:
        return len(self._slots.slots[part.slot].tokens)

    def _sample(self, parts: Collection[ScheduledChunk]) -> list[Sampled]:
        """Sample from the last row of each chunk, or from each row while drafted tokens match.

        All rows of a scored prompt are read.
        """
        sampled, row = [], 0
        for part in parts:
            row += part.count
            sequence = self._sequences[part.id]
            if sequence.scored and self._score(sequence, part, row - part.count):
                continue
            if part.outputs and sequence.sampler is not None:
                try:
                    sampled.append(draw(sequence, sequence.sampler, row - part.outputs))
                except ConstraintError as error:
                    self._refuse(sequence, f"The answer was stopped: {error}.")
                except ComputeError as error:
                    self._fail(sequence, f"The model could not compute this answer: {error}.")
        return sampled

    def _score(self, sequence: RunningSequence, part: ScheduledChunk, row: int) -> bool:
        """Return whether the request ends with its prompt, all of which is now scored."""
        start = self._start_of(part) - part.count
        if sequence.score(start, part.count, row, self._backend.vocabulary):
            self._echo(sequence)
            if sequence.prompt.ends_with_prompt:
                self._finish(sequence, "length")
                return True
        return False

    def _record_timing(self, parts: Collection[ScheduledChunk], began: float) -> None:
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
        """Emit all text of the step in one frame, then the ends."""
        now = self._clock()
        deltas: list[Delta] = []
        ended: list[tuple[RunningSequence, FinishReason]] = []
        for one in sampled:
            sequence, text, reason = one.sequence, "", None
            if sequence.first_token is None:
                sequence.first_token = now
            for token, logprob in zip(one.tokens, one.logprobs, strict=True):
                ends = sequence.ends_with(token, self._backend.vocabulary)
                # With an echo every row counts: readers of an echo leave out the last token
                # themselves.
                if logprob is not None and (sequence.prompt.echo or not ends):
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

    def _send_stats(self) -> None:
        """Emit the counters periodically and when idle."""
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

    def _finish(self, sequence: RunningSequence, reason: FinishReason) -> None:
        self._forget(sequence)
        self._emit_frame(Finished(sequence.id, reason, sequence.usage(self._clock())))

    def _fail(self, sequence: RunningSequence, message: str) -> None:
        log.error("Request failed", extra={"run": sequence.id, "error": message})
        if sequence.slot:
            self._slots.clear(sequence.slot)
        self._forget(sequence)
        self._emit_frame(Failed(sequence.id, "engine_error", message))

    def _refuse(self, sequence: RunningSequence, message: str) -> None:
        log.warning("Request refused", extra={"run": sequence.id, "error": message})
        self._forget(sequence)
        self._emit_frame(Failed(sequence.id, "request_refused", message))

    def _forget(self, sequence: RunningSequence) -> None:
        self._scheduler.remove(sequence.id)
        del self._sequences[sequence.id]
        if sequence.slot:
            self._slots.release(sequence.slot)
        if sequence.sampler is not None:
            sequence.sampler.close()
        self._short_of_memory = False

    def _recover(self, outcome: Decoded, parts: Collection[ScheduledChunk]) -> None:
        """Roll back a failed step: none of it counts, and its tokens leave the KV cache."""
        for run in sorted({part.id for part in parts}):
            log.warning("Step failed", extra={"run": run, "error": outcome.value})
        if outcome is Decoded.NO_SPACE:
            self._preempt(parts)
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

    def _preempt(self, parts: Collection[ScheduledChunk]) -> None:
        """Evict an idle slot, or else preempt the sequence that started last.

        A preempted sequence returns to the head of the queue until another one ends, and resumes
        later.
        """
        if self._slots.evict():
            return
        if (victim := self._scheduler.preemption_candidate()) is None:
            for part in parts:
                self._fail(self._sequences[part.id], "The KV cache is too small for this request.")
            return
        sequence = self._sequences[victim]
        log.info("Request preempted", extra={"run": victim})
        if sequence.slot:
            self._slots.preempt(sequence.slot)
            sequence.slot, sequence.draft = None, []
        self._scheduler.remove(victim)
        self._scheduler.enqueue(victim, priority=sequence.prompt.priority, first=True)
        self._short_of_memory = True
