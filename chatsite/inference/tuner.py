"""Measures the settings of models in the background: one model at a time, while the host is idle.

`Placement` decides which model and when. This module runs the measurement, interrupts it when a
request arrives, and spaces the attempts for each model.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from chatsite.engine.contract.offload import Offload
from chatsite.engine.tuning.autotune import NoTuningWorks, Tuned, TuneProgress
from chatsite.inference import model_spec as specs
from chatsite.inference.model_spec import ModelSpec

log = logging.getLogger(__name__)

# Seconds after an unfinished measurement until the next one of the same model, doubled each time.
_PAUSE_SECONDS: Final = 60.0
_MOST_PAUSE_SECONDS: Final = 3600.0
# Unfinished measurements of one model until this host restarts. Results are kept, so many attempts
# help even if each lasts for one probe only.
_MOST_TRIES: Final = 12


@dataclass
class _Tries:
    count: int = 0
    not_before: float = float("-inf")


class Measurement(NamedTuple):
    """The measurement of ``spec``, which takes ``bytes`` of memory while it runs."""

    spec: ModelSpec
    bytes: int
    task: asyncio.Task[Tuned | None]


class Tuner:
    """Measurements on one host. ``alone`` is held while measuring or probing: never two at once."""

    def __init__(self) -> None:
        self.alone = asyncio.Lock()
        self.progress = 0.0
        self._hurry = asyncio.Event()
        self._running: Measurement | None = None
        self._tries: dict[str, _Tries] = {}

    @property
    def running(self) -> Measurement | None:
        return self._running

    def may_try(self, digest: str) -> bool:
        """Whether the pause after the last attempt is over and the limit is not reached."""
        tries = self._tries.get(digest, _Tries())
        return tries.count < _MOST_TRIES and time.monotonic() >= tries.not_before

    def begin(self, spec: ModelSpec, offload: Offload, memory_bytes: int) -> None:
        """Start to measure in a task. Raises `RuntimeError` if a measurement is running."""
        if self._running is not None:
            raise RuntimeError("a second measurement beside the first")
        self._hurry.clear()
        self.progress = 0.0
        task = asyncio.create_task(self._measure(spec, offload), name=f"tune {spec.name}")
        self._running = Measurement(spec, memory_bytes, task)

    async def interrupt(self) -> None:
        """End the measurement; its child has ended when this returns."""
        if self._running is not None:
            self._hurry.set()
            await asyncio.wait([self._running.task])

    def ended(self) -> Measurement | None:
        """Return the measurement that has ended since the last call.

        The result of its task is None if no settings worked.
        """
        if self._running is None or not self._running.task.done():
            return None
        ended, self._running = self._running, None
        return ended

    async def _measure(self, spec: ModelSpec, offload: Offload) -> Tuned | None:
        def on_progress(progress: TuneProgress) -> None:
            self.progress = progress.done / max(progress.total, 1)

        log.info("Tuning a model while the host is idle", extra={"model": spec.name})
        tuned = None
        try:
            async with self.alone:
                tuned = await specs.tuning_of(spec, on_progress, offload=offload, hurry=self._hurry)
        except NoTuningWorks as error:
            # The model may still load and answer: only its own child can tell.
            log.warning(
                "No settings work for the model", extra={"model": spec.name, "error": error}
            )
        except Exception:
            log.exception("Tuning failed", extra={"model": spec.name})
        if tuned is not None and tuned.complete:
            self._tries.pop(spec.digest, None)
        else:
            tries = self._tries.setdefault(spec.digest, _Tries())
            pause = min(_PAUSE_SECONDS * 2**tries.count, _MOST_PAUSE_SECONDS)
            tries.count += 1
            tries.not_before = time.monotonic() + pause
        return tuned
