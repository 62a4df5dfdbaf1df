"""What is to be loaded, as the catalogue and the settings have it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatsite.engine import autotune
from chatsite.engine import messages as m
from chatsite.engine.offload import PROCESSOR, Offload
from chatsite.engine.requantized import Copy
from chatsite.engine.tuning import Tuning
from chatsite.inference.layout import Option


@dataclass(frozen=True)
class ModelSpec:
    """``slots`` answers at once, each with up to ``context`` tokens. ``options`` say what memory
    that takes, and what less context would where that is left to the host; none if nobody
    knows. ``cache_bytes`` are the most for conversations that lost their slot. ``keep_alive``:
    seconds that it stays unused, for ever if negative; a ``pinned`` one stays whatever happens.
    ``copy`` is where faster weights may be, None where they are not wanted."""

    name: str
    digest: str
    path: Path
    context: int
    slots: int
    threads: int
    step_target_ms: float
    cache_bytes: int
    backend: Literal["llama", "scripted"]
    tuning_file: Path
    options: tuple[Option, ...] = ()
    keep_alive: float = -1.0
    pinned: bool = False
    copy: Copy | None = None

    def load(self, tuning: Tuning, offload: Offload, cache_bytes: int) -> m.Load:
        """The first frame to its engine child."""
        return m.Load(
            name=self.name,
            path=str(self.copy.path if self.copy and tuning.weights else self.path),
            tuning=tuning,
            context=self.context,
            slots=self.slots,
            step_target_ms=self.step_target_ms,
            cache_bytes=cache_bytes,
            offload=offload,
        )


async def tuning_of(
    spec: ModelSpec,
    on_progress: Callable[[autotune.TuneProgress], None] | None = None,
    *,
    offload: Offload = PROCESSOR,
    hurry: asyncio.Event | None = None,
) -> autotune.Tuned:
    """The settings that this model runs with here; measured at its first load, unless somebody
    is in a ``hurry``."""
    if spec.backend != "llama":
        return autotune.Tuned(autotune.plain(1), complete=True)
    return await autotune.tune(
        spec.path,
        digest=spec.digest,
        threads=spec.threads,
        store=spec.tuning_file,
        name=spec.name,
        offload=offload,
        copy=spec.copy,
        step_ms=spec.step_target_ms,
        hurry=hurry,
        on_progress=on_progress,
    )
