"""When a model's settings are measured: at its first load, and at nobody's expense."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatsite.engine.autotune import TuneProgress
from chatsite.engine.offload import Offload
from chatsite.engine.tuning import Tuning
from chatsite.inference.spec import ModelSpec, tuning_of

# After so long without a request, the next one is likely not to come while it is measured; where
# it did come, twice as long the next time.
_IDLE_SECONDS = 60.0
_MOST_IDLE_SECONDS = 3600.0


class Tuner:
    """Of one model. ``rough``: it runs with what was known when somebody could not wait."""

    def __init__(self) -> None:
        self.rough = False
        self._idle_seconds = _IDLE_SECONDS
        self._hurry = asyncio.Event()
        self._again = False

    async def tuning(
        self,
        spec: ModelSpec,
        offload: Offload,
        on_progress: Callable[[TuneProgress], None],
        *,
        patient: bool,
    ) -> Tuning:
        """``patient``: everything is measured, whoever waits. Raises `NoTuningWorks`."""
        self._hurry.clear()
        hurry = None if patient else self._hurry
        tuning, complete = await tuning_of(spec, on_progress, offload=offload, hurry=hurry)
        if self.rough and not complete:
            self._idle_seconds = min(2 * self._idle_seconds, _MOST_IDLE_SECONDS)
        self.rough = not complete
        return tuning

    def hurry(self) -> None:
        """Somebody waits for the model."""
        self._hurry.set()

    def due(self, idle_seconds: float) -> bool:
        """Whether the rest is to be measured now, for which the model leaves and comes back."""
        self._again = self.rough and idle_seconds >= self._idle_seconds
        return self._again

    def left_for_it(self) -> bool:
        """Whether the model has left for that, and did not die."""
        left, self._again = self._again, False
        return left
