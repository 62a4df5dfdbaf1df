"""Vectors for `Embed` requests, computed in batches between the steps of running answers.

Requests take turns, input by input, so that a question is not held up behind somebody's
library. Inputs that fit a batch go in whole, many at once. A longer one goes in pieces, where
the model reads from left to right. While answers run, a batch comes when their steps have taken
as long as it will, so that they keep half of the time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from chatsite.engine.backend import ComputeError, Embedder, Piece
from chatsite.engine.messages import Embedded, Failed, Finished, ToHost, Usage

log = logging.getLogger(__name__)

# The least tokens of a batch: smaller ones cost nearly as much.
_MIN_ROWS: Final = 16
_WEIGHT: Final = 0.3  # of the newest batch in what a token is thought to cost


@dataclass(slots=True, eq=False)
class EmbedJob:
    """``inputs`` are tokens, none empty and none longer than the embedder's limit; ``begun`` of
    them are computed or in a batch. ``arrived`` is the engine clock's time in seconds."""

    id: str
    inputs: Sequence[Sequence[int]]
    arrived: float
    begun: int = 0
    vectors: dict[int, bytes] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.inputs))


@dataclass(slots=True)
class _Work:
    """One input, of which the embedder has taken ``done`` tokens, under a number of its own.
    ``alone`` in its batch: one with it failed."""

    job: EmbedJob
    index: int
    sequence: int
    done: int = 0
    alone: bool = False

    @property
    def left(self) -> int:
        return len(self.job.inputs[self.index]) - self.done

    def piece(self, most: int) -> Piece:
        tokens = self.job.inputs[self.index][self.done : self.done + most]
        return Piece(self.sequence, self.done, tokens, last=len(tokens) == self.left)


class EmbedQueue:
    """``target_ms`` bounds a batch, if an input or the least batch does not take longer;
    ``clock`` is in seconds and only measures."""

    def __init__(
        self,
        embedder: Embedder,
        emit: Callable[[ToHost], None],
        *,
        target_ms: float,
        clock: Callable[[], float],
    ) -> None:
        self._embedder = embedder
        self._emit = emit
        self._clock = clock
        self._jobs: dict[str, EmbedJob] = {}
        self._turns: deque[EmbedJob] = deque()  # jobs with inputs that were not begun
        # Goes before all others: the one input that was computed in part, or those of a batch
        # that failed.
        self._first: deque[_Work] = deque()
        self._target_ms = target_ms
        self._tokens_per_ms = 0.0
        self._earned_ms = 0.0  # by answers' steps since the last batch

    @property
    def idle(self) -> bool:
        return not self._jobs

    def submit(self, job: EmbedJob) -> None:
        if job.id in self._jobs:
            log.error("request %s is here already; the second one is ignored", job.id)
            return
        self._jobs[job.id] = job
        if job.inputs:
            self._turns.append(job)
        self._finish(job)

    def cancel(self, id: str) -> None:
        if job := self._jobs.get(id):
            self._forget(job)
            usage = Usage(0, 0, 0, (self._clock() - job.arrived) * 1e3, 0.0, 0.0)
            self._emit(Finished(id, "cancelled", usage))

    def step(self, spent_ms: float | None) -> None:
        """Computes one batch, unless answers, whose step took ``spent_ms``, must have more time
        first; None: nobody writes. Nothing when idle."""
        if self.idle:
            return
        self._earned_ms = min(self._target_ms, self._earned_ms + (spent_ms or 0.0))
        target_ms = self._target_ms if spent_ms is None else self._earned_ms
        rows = int(target_ms * self._tokens_per_ms)
        if spent_ms is not None and rows < _MIN_ROWS and self._earned_ms < self._target_ms:
            return
        self._earned_ms = 0.0
        rows = min(max(rows, _MIN_ROWS), self._embedder.rows)
        batch = self._plan(rows)
        most = rows if self._embedder.splits else self._embedder.rows
        pieces = [work.piece(most) for work in batch]
        began = self._clock()
        try:
            vectors = iter(self._embedder.compute(pieces))
        except ComputeError as error:
            self._recover(batch, str(error))
            return
        self._measure(sum(len(piece.tokens) for piece in pieces), self._clock() - began)
        for work, piece in zip(batch, pieces, strict=True):
            work.done += len(piece.tokens)
            if not piece.last:
                self._first.appendleft(work)
                continue
            work.job.vectors[work.index] = next(vectors)
            self._finish(work.job)

    def _plan(self, rows: int) -> list[_Work]:
        """Inputs of one batch. Only the first may have more tokens left than there is room."""
        batch: list[_Work] = []
        if self._first:
            batch.append(self._first.popleft())
            if batch[0].alone:
                return batch
        taken = {work.sequence for work in batch}
        free = [n for n in range(self._embedder.sequences) if n not in taken]
        room = rows - sum(work.left for work in batch)
        while self._turns and free and room > 0:
            job = self._turns[0]
            work = _Work(job, job.begun, free[0])
            if batch and work.left > room:
                break
            batch.append(work)
            free.pop(0)
            room -= work.left
            job.begun += 1
            self._turns.rotate(-1)
            if job.begun == len(job.inputs):
                self._turns.remove(job)
        return batch

    def _measure(self, tokens: int, seconds: float) -> None:
        rate = tokens / max(seconds * 1e3, 1e-3)
        old = self._tokens_per_ms or rate
        self._tokens_per_ms = old + _WEIGHT * (rate - old)

    def _recover(self, batch: Sequence[_Work], reason: str) -> None:
        """Each input of a failed batch again, alone; one that fails alone ends its request."""
        log.warning("a batch of %d inputs failed: %s", len(batch), reason)
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
        if len(job.vectors) < len(job.inputs):
            return
        self._forget(job)
        vectors = b"".join(job.vectors[index] for index in range(len(job.inputs)))
        self._emit(Embedded(job.id, vectors, self._embedder.size, job.tokens))

    def _forget(self, job: EmbedJob) -> None:
        del self._jobs[job.id]
        if job in self._turns:
            self._turns.remove(job)
        if any(work.job is job and work.done for work in self._first):
            self._embedder.clear()
        self._first = deque(work for work in self._first if work.job is not job)
