"""What the engine has done, counted step by step and told now and then."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from chatsite.engine.messages import Stats
from chatsite.engine.sequence import Sampled

TELL_SECONDS = 1.0


@dataclass(slots=True)
class ModelTime:
    """Processor seconds that this thread spends in ``with`` blocks of it."""

    seconds: float = 0.0
    _began: float = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._began


@dataclass(slots=True)
class Counters:
    """Sums since the model was loaded; ``told`` is when they were last sent, in seconds."""

    steps: int = 0
    step_seconds: float = 0.0
    prefilled: int = 0
    decoded: int = 0
    cached: int = 0
    drafted: int = 0
    accepted: int = 0
    told: float = 0.0
    model: ModelTime = field(default_factory=ModelTime)

    def count(self, sampled: Collection[Sampled]) -> None:
        for one in sampled:
            self.decoded += len(one.tokens)
            self.drafted += one.drafted
            self.accepted += len(one.tokens) - 1

    def due(self, now: float) -> bool:
        if now - self.told < TELL_SECONDS:
            return False
        self.told = now
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
