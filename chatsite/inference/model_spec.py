"""What to load for a model, from the catalogue and the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from django.utils.translation import gettext_lazy as _

from chatsite.capacity.offload_layout import Option
from chatsite.engine.contract import messages as m
from chatsite.engine.contract.offload import PROCESSOR, Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import autotune
from chatsite.engine.tuning.requantized import Copy
from chatsite.errors import ModelUnavailable


class RemoteModelRequested(ModelUnavailable):
    """The model has no file that could be loaded here: remote engines have it."""

    code = "remote_model"
    permanent = True
    message = _("This model is computed by a remote engine, so it is not loaded here.")


@dataclass(frozen=True)
class ModelSpec:
    """A model with ``slots`` concurrent sequences of up to ``context`` tokens each.

    ``options`` are the memory that this takes, and the smaller contexts if the host may choose;
    empty if unknown. ``cache_bytes`` is the limit of the cache of conversations without a slot.
    ``keep_alive`` is the idle time in seconds until the model is unloaded, never if negative; a
    ``pinned`` model does not expire and is not evicted. ``copy`` is the location of faster
    weights, None if disabled.
    """

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
        """Return the first frame to the engine child."""
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


def known_tuning(spec: ModelSpec, offload: Offload = PROCESSOR) -> autotune.Tuned:
    """Return the settings to load this model with, without measuring."""
    if spec.backend != "llama":
        return autotune.Tuned(autotune.plain(1), complete=True)
    return autotune.known(
        spec.digest,
        spec.threads,
        store=spec.tuning_file,
        offload=offload,
        copy=spec.copy,
        context=spec.context,
        slots=spec.slots,
    )


async def surviving_tuning(spec: ModelSpec, offload: Offload = PROCESSOR) -> Tuning:
    """Return settings that the model runs with after its child died of the known ones.

    Raises `autotune.NoTuningWorks`.
    """
    if spec.backend != "llama":
        return autotune.plain(1)
    return await autotune.survivor(
        spec.path,
        spec.digest,
        spec.threads,
        store=spec.tuning_file,
        name=spec.name,
        offload=offload,
        copy=spec.copy,
        context=spec.context,
        slots=spec.slots,
    )


async def tuning_of(
    spec: ModelSpec,
    on_progress: Callable[[autotune.TuneProgress], None] | None = None,
    *,
    offload: Offload = PROCESSOR,
    hurry: asyncio.Event | None = None,
) -> autotune.Tuned:
    """Return the fastest settings of this model on this host; measure them if unknown.

    ``hurry`` ends the measurement early.
    """
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
        context=spec.context,
        slots=spec.slots,
        hurry=hurry,
        on_progress=on_progress,
    )
