"""What is to be loaded, as the catalogue and the settings have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatsite.engine import autotune
from chatsite.engine import messages as m
from chatsite.inference.room import Option


@dataclass(frozen=True)
class ModelSpec:
    """``slots`` answers at once, each with up to ``context`` tokens. ``options`` say what memory
    that takes, and what less context would where that is left to the host; none if nobody
    knows. ``cache_bytes`` are the most for conversations that lost their slot. ``keep_alive``:
    seconds that it stays unused, for ever if negative; a ``pinned`` one stays whatever happens."""

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


async def tuning_of(
    spec: ModelSpec, on_progress: Callable[[autotune.TuneProgress], None] | None = None
) -> m.Tuning:
    """The settings that this model runs with here; measured at its first load."""
    if spec.backend != "llama":
        return m.Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    return await autotune.tune(
        spec.path,
        digest=spec.digest,
        threads=spec.threads,
        store=spec.tuning_file,
        name=spec.name,
        on_progress=on_progress,
    )
