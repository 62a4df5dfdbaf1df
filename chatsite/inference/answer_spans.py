"""The spans of an answer, from the times that host and engine child measured."""

from __future__ import annotations

import time

from chatsite import tracing
from chatsite.answers.outcome import Outcome
from chatsite.inference.running_request import RunningRequest
from chatsite.tracing import Stage


def record(running: RunningRequest, outcome: Outcome) -> None:
    """Record queue, wait for the engine, prefill and decode, if the request is traced."""
    job = running.lease.job
    if not job.traceparent:
        return
    ended = time.time()
    leased = ended - (time.monotonic() - running.began)
    parts = [Stage("queue", job.queued_at, leased)]
    attributes: dict[str, str | int | float] = {
        "gen_ai.request.model": job.model,
        "generation": job.id,
        "request_id": job.request_id,
        "attempt": running.lease.attempt,
        "state": outcome.state.value,
    }
    if usage := outcome.usage:
        at = leased
        for name, ms in (
            ("engine queue", usage.queue_ms),
            ("prefill", usage.prefill_ms),
            ("decode", usage.decode_ms),
        ):
            parts.append(Stage(name, at, at + ms / 1e3))
            at += ms / 1e3
        attributes |= {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.cached_tokens": usage.cached_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
        }
    tracing.record(job.traceparent, Stage("answer", job.queued_at, ended), parts, attributes)
