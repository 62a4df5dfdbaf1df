"""What a model's runner is to others: who asks about it, and who decides what is loaded."""

from __future__ import annotations

import time
from collections.abc import Set

from chatsite.inference import machine
from chatsite.inference.room import Held
from chatsite.inference.runner import ModelRunner
from chatsite.inference.status import ModelStatus


def status_of(runner: ModelRunner, name: str) -> ModelStatus:
    """What others are told of it under one of its names."""
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
    )


def held(runner: ModelRunner, in_line: Set[str] = frozenset()) -> Held:
    """``in_line``: digests of models that somebody waits for."""
    resident = machine.resident(runner.pid)
    waited_for = runner.spec.digest in in_line and not runner.closing
    loading = runner.state in {"measuring", "loading"}
    return Held(
        digest=runner.spec.digest,
        promised=max(runner.promised, resident - runner.cache_bytes),
        resident=resident,
        idle=runner.idle and not loading and not waited_for,
        pinned=runner.spec.pinned,
        last_used=runner.last_used,
        on=runner.layout.on,
        loading=runner.loaded is None,
    )
