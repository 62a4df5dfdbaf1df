"""A runner as others see it: its public status, and its memory for placement decisions."""

from __future__ import annotations

import time
from collections.abc import Set

from chatsite.capacity import machine
from chatsite.capacity.admission import LoadedModel
from chatsite.hosts.status import ModelStatus
from chatsite.inference.runner import ModelRunner


def status_of(runner: ModelRunner, name: str) -> ModelStatus:
    """Return the status that is announced under one of the model's names."""
    return ModelStatus(
        name=name,
        digest=runner.spec.digest,
        state=runner.state,
        progress=runner.progress,
        slots=runner.spec.slots,
        busy=len(runner.running),
        context=runner.loaded.context if runner.loaded else 0,
        rss_bytes=runner.loaded.rss_bytes if runner.loaded else 0,
        reason=runner.reason,
        stats=runner.stats,
        promised_bytes=runner.promised + runner.cache_bytes,
        wanted_context=runner.wanted if runner.wanted > runner.spec.context else 0,
        pinned=runner.spec.pinned,
        expires_at=None if runner.expires_in is None else time.time() + runner.expires_in,
        typical_seconds=runner.occupancy.typical,
        openings=runner.occupancy.openings(
            [time.monotonic() - running.began for running in runner.running.values()],
            runner.spec.slots,
        ),
        latency=runner.latency.histograms(),
        layers=len(runner.layout.option.layers),
        device_layers=runner.layout.layers,
        devices=dict(runner.layout.on),
        device_problem=runner.device_problem,
        weights=runner.weights,
        protection=runner.loaded.protection if runner.loaded else None,
        renderer_protection=runner.loaded.renderer_protection if runner.loaded else None,
        empty_answers=runner.empty_answers,
        rough=runner.rough,
    )


def held(runner: ModelRunner, in_line: Set[str] = frozenset()) -> LoadedModel:
    """Return what the model holds; ``in_line`` are digests of models with queued jobs."""
    resident = machine.resident(runner.pid)
    waited_for = runner.spec.digest in in_line and not runner.closing
    # A model that loads for a request is not evicted before it has answered.
    loading = runner.state == "loading" and not runner.returning
    return LoadedModel(
        digest=runner.spec.digest,
        promised=max(runner.promised, resident - runner.cache_bytes),
        resident=resident,
        idle=runner.idle and not loading and not waited_for,
        pinned=runner.spec.pinned,
        last_used=runner.last_used,
        on=runner.layout.on,
        loading=runner.loaded is None,
    )
