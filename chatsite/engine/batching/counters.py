"""Engine counters, summed up step by step and sent periodically."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from chatsite.engine.batching.running_sequence import Sampled
from chatsite.engine.contract.messages import Stats

SEND_SECONDS = 1.0


@dataclass(slots=True)
class ModelTime:
    """Thread CPU time in seconds, spent inside its ``with`` blocks."""

    seconds: float = 0.0
    _began: float = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._began


@dataclass(slots=True)
class Counters:
    """Sums since the model was loaded; ``last_sent`` is the time of the last frame, in seconds."""

    steps: int = 0
    step_seconds: float = 0.0
    prefilled: int = 0
    decoded: int = 0
    cached: int = 0
    drafted: int = 0
    accepted: int = 0
    last_sent: float = 0.0
    model: ModelTime = field(default_factory=ModelTime)

    def count(self, sampled: Collection[Sampled]) -> None:
        for one in sampled:
            self.decoded += len(one.tokens)
            self.drafted += one.drafted
            self.accepted += len(one.tokens) - 1

    def due(self, now: float) -> bool:
        if now - self.last_sent < SEND_SECONDS:
            return False
        self.last_sent = now
        return True

    def stats(self, *, running: int, waiting: int, saved_bytes: int, restored: int) -> Stats:
        return Stats(
            steps=self.steps,
            step_seconds=round(self.step_seconds, 3),
            prefilled=self.prefilled,
            decoded=self.decoded,
            cached=self.cached,
            drafted=self.drafted,
            accepted=self.accepted,
            running=running,
            waiting=waiting,
            saved_bytes=saved_bytes,
            restored=restored,
            own_seconds=round(time.thread_time() - self.model.seconds, 4),
        )
