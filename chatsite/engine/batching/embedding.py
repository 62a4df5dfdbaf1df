"""Embedding vectors for `Embed` requests, computed in batches between the steps of answers.

Requests take turns input by input, so that a query does not wait for a whole library. Those of
class BATCH are computed while no other has inputs left, in small batches. Inputs that
fit a batch are computed whole, many per batch. A longer one is computed in pieces if the model is
causal. While answers run, a batch is computed once their steps have taken as long as the batch is
expected to take, so answers keep half of the time. The batch follows one of their steps, and both
together are the gap in their streams: together they keep to the step target.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from chatsite.engine.contract.backend import ComputeError, Embedder, InputChunk
from chatsite.engine.contract.messages import (
    Embedded,
    EmbeddedPart,
    Failed,
    Finished,
    ToHost,
    Usage,
)

log = logging.getLogger(__name__)

# Minimum tokens of a batch while no answer runs. Smaller batches cost more per token: beside
# answers they are computed only where this many do not fit the time.
_MIN_ROWS: Final = 16
# Share of the step target that a batch may take beside running answers: the maximum, and the
# minimum behind a step that used all of it.
_MOST_BESIDE: Final = 0.5
_LEAST_BESIDE: Final = 0.25
# Share of the step target for inputs of class BATCH while no answer runs: a request of a user that
# arrives meanwhile waits for them.
_OF_BATCH: Final = 0.5
# Weight of the newest batch in the measured speed. A slower batch weighs more: the next one is a
# gap in a user's stream.
_WEIGHT: Final = 0.3
_WEIGHT_SLOWER: Final = 0.7
# Speed of the first batch, relative to prefill: each of its tokens has an output.
_FIRST: Final = 0.5
# Bytes after which vectors are sent, so that no large frame delays a step.
_PART_BYTES: Final = 64 << 10
_NUMBER: Final = 4  # bytes of a float32


class Prefill(Protocol):
    """Measured prefill speed; implemented in `speed.py`."""

    @property
    def prefill_tokens_per_ms(self) -> float: ...


@dataclass(slots=True, eq=False)
class EmbedJob:
    """The inputs of one `Embed` request and their progress.

    ``inputs`` are token sequences, none empty or longer than the embedder's limit. ``begun`` of
    them are computed or in a batch, and ``sent`` of their vectors have been sent. ``vectors`` holds
    those computed but not sent, by index. ``arrived`` is in seconds of the engine's clock.
    """

    id: str
    inputs: Sequence[Sequence[int]]
    arrived: float
    batch: bool = False
    begun: int = 0
    sent: int = 0
    vectors: dict[int, bytes] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.inputs))


@dataclass(slots=True)
class _Work:
    """One input, of which ``done`` tokens are computed, under its own sequence number.

    ``alone``: computed in a batch of its own, after a batch with it failed.
    """

    job: EmbedJob
    index: int
    sequence: int
    done: int = 0
    alone: bool = False

    @property
    def left(self) -> int:
        return len(self.job.inputs[self.index]) - self.done

    def piece(self, most: int) -> InputChunk:
        tokens = self.job.inputs[self.index][self.done : self.done + most]
        return InputChunk(self.sequence, self.done, tokens, last=len(tokens) == self.left)


class EmbedQueue:
    """The `Embed` requests of one model.

    ``target_ms`` bounds a batch, unless a single token or an input that can't be split takes
    longer. ``clock`` returns seconds and is used for measurement only. ``speed`` sizes the first
    batch.
    """

    def __init__(
        self,
        embedder: Embedder,
        emit: Callable[[ToHost], None],
        *,
        target_ms: float,
        clock: Callable[[], float],
        speed: Prefill,
    ) -> None:
        self._embedder = embedder
        self._emit = emit
        self._clock = clock
        self._jobs: dict[str, EmbedJob] = {}
        # Jobs with inputs not begun: those of users, and those of class BATCH.
        self._turns: deque[EmbedJob] = deque()
        self._batches: deque[EmbedJob] = deque()
        self._held = False
        # Computed before all others: the partly computed input, or the inputs of a failed batch.
        self._first: deque[_Work] = deque()
        self._target_ms = target_ms
        self._speed = speed
        self._tokens_per_ms = 0.0  # 0 before the first batch
        # Time of answers' steps minus the time of batches beside them.
        self._earned_ms = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing can be computed now: held batches don't count."""
        return not (self._first or self._turns or (self._batches and not self._held))

    def hold_batches(self, held: bool) -> None:
        """Compute no inputs of class BATCH while ``held``, except one that is partly computed."""
        self._held = held

    def submit(self, job: EmbedJob) -> None:
        if job.id in self._jobs:
            log.error("Duplicate request ignored", extra={"run": job.id})
            return
        self._jobs[job.id] = job
        if job.inputs:
            (self._batches if job.batch else self._turns).append(job)
        self._finish(job)

    def cancel(self, id: str) -> None:
        if job := self._jobs.get(id):
            self._forget(job)
            usage = Usage(0, 0, 0, (self._clock() - job.arrived) * 1e3, 0.0, 0.0)
            self._emit(Finished(id, "cancelled", usage))

    def step(self, spent_ms: float | None) -> None:
        """Compute one batch, unless idle or running answers must get more time first.

        ``spent_ms`` is the duration of the answers' step; None: no answer runs.
        """
        if self.idle:
            return
        rows = self._affordable(spent_ms)
        if spent_ms is None and not (self._first or self._turns):
            rows = max(int(rows * _OF_BATCH), _MIN_ROWS)
        if not rows:
            return
        rows = min(rows, self._embedder.rows)
        batch = self._plan(rows)
        most = rows if self._embedder.splits else self._embedder.rows
        pieces = [work.piece(most) for work in batch]
        began = self._clock()
        try:
            vectors = iter(self._embedder.compute(pieces))
        except ComputeError as error:
            self._recover(batch, str(error))
            return
        finally:
            elapsed_ms = (self._clock() - began) * 1e3
            self._earned_ms = max(self._earned_ms - elapsed_ms, -self._target_ms)
        self._record_timing(sum(len(piece.tokens) for piece in pieces), elapsed_ms)
        for work, piece in zip(batch, pieces, strict=True):
            work.done += len(piece.tokens)
            if not piece.last:
                self._first.appendleft(work)
                continue
            work.job.vectors[work.index] = next(vectors)
            self._finish(work.job)

    def _affordable(self, spent_ms: float | None) -> int:
        """Return how many tokens a batch may have now; 0 for none."""
        speed = self._tokens_per_ms or self._speed.prefill_tokens_per_ms * _FIRST
        if spent_ms is None:
            self._earned_ms = 0.0
            return max(int(self._target_ms * speed), _MIN_ROWS)
        self._earned_ms = min(self._target_ms, self._earned_ms + spent_ms)
        most_ms = min(
            self._target_ms * _MOST_BESIDE,
            max(self._target_ms - spent_ms, self._target_ms * _LEAST_BESIDE),
        )
        rows = int(min(self._earned_ms, most_ms) * speed)
        if self._earned_ms < most_ms and rows < _MIN_ROWS:
            return 0
        return max(rows, 1)

    def _plan(self, rows: int) -> list[_Work]:
        """Return the inputs of one batch.

        Only the first may have more tokens left than ``rows``.
        """
        batch: list[_Work] = []
        if self._first:
            batch.append(self._first.popleft())
            if batch[0].alone:
                return batch
        taken = {work.sequence for work in batch}
        free = [n for n in range(self._embedder.sequences) if n not in taken]
        room = rows - sum(work.left for work in batch)
        turns = self._turns
        if not turns and not self._held and all(work.job.batch for work in batch):
            turns = self._batches
        while turns and free and room > 0:
            job = turns[0]
            work = _Work(job, job.begun, free[0])
            if batch and work.left > room:
                break
            batch.append(work)
            free.pop(0)
            room -= work.left
            job.begun += 1
            turns.rotate(-1)
            if job.begun == len(job.inputs):
                turns.remove(job)
        return batch

    def _record_timing(self, tokens: int, elapsed_ms: float) -> None:
        rate = tokens / max(elapsed_ms, 1e-3)
        old = self._tokens_per_ms or rate
        weight = _WEIGHT_SLOWER if rate < old else _WEIGHT
        self._tokens_per_ms = old + weight * (rate - old)

    def _recover(self, batch: Sequence[_Work], reason: str) -> None:
        """Retry each input of a failed batch alone; one that fails alone ends its request."""
        log.warning("Batch of embeddings failed", extra={"inputs": len(batch), "error": reason})
        self._embedder.clear()
        if len(batch) > 1:
            for work in batch:
                work.done, work.alone = 0, True
            self._first.extend(batch)
            return
        work = batch[0]
        self._forget(work.job)
        message = f"The model could not compute input {work.index + 1}: {reason}."
        self._emit(Failed(work.job.id, "engine_error", message))

    def _finish(self, job: EmbedJob) -> None:
        """Send the vectors that are next in order, if they are many or the last ones."""
        ready = job.sent
        while ready in job.vectors:
            ready += 1
        ends = ready == len(job.inputs)
        if not ends and (ready - job.sent) * _NUMBER * self._embedder.size < _PART_BYTES:
            return
        vectors = b"".join(job.vectors.pop(index) for index in range(job.sent, ready))
        job.sent = ready
        if not ends:
            self._emit(EmbeddedPart(job.id, vectors))
            return
        self._forget(job)
        self._emit(Embedded(job.id, vectors, self._embedder.size, job.tokens))

    def _forget(self, job: EmbedJob) -> None:
        del self._jobs[job.id]
        for turns in (self._turns, self._batches):
            if job in turns:
                turns.remove(job)
        if any(work.job is job and work.done for work in self._first):
            self._embedder.clear()
        self._first = deque(work for work in self._first if work.job is not job)
