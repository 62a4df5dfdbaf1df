"""How a generation's beginning and end are saved: SQL first, then the stream, then the queue.

In this order a crash between any two steps leaves something that a later attempt or the reaper
can finish: the text is in SQL before any reader is told that it has ended.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import DateTimeField, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from chatsite.chat.models import OPEN_STATES, Conversation, Generation, GenerationState, Message
from chatsite.dispatch.queue import GivenBack, Queue
from chatsite.engine.messages import PLAIN, OutputSyntax, Usage
from chatsite.errors import ChatsiteError, Interrupted
from chatsite.search import index
from chatsite.stream.messages import End
from chatsite.stream.publish import FencedOff, Publisher, Writer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """``ttft_ms`` runs from the queueing of the request to its first text, None without any."""

    state: GenerationState
    finish_reason: str = ""
    error: dict[str, Any] | None = None
    usage: Usage | None = None
    ttft_ms: float | None = None


@sync_to_async
def save_start(
    generation: str, *, attempt: int, version: str, syntax: OutputSyntax = PLAIN
) -> bool:
    """queued → running; on a later attempt, running → running. False when it has ended."""
    now = Value(timezone.now(), output_field=DateTimeField())
    return Generation.advance(
        generation,
        to=GenerationState.RUNNING,
        attempt=attempt,
        started_at=Coalesce("started_at", now),
        model_version=version,
        syntax=msgspec.to_builtins(syntax),
    )


@sync_to_async
def save_end(
    generation: str,
    *,
    attempt: int,
    text: str,
    tokens: int,
    outcome: Outcome,
    reasoning_ms: float | None = None,
    reasoning_tokens: int = 0,
) -> End | None:
    """Saves text and outcome in one transaction and returns the stream's last entry, which alone
    tells the ``reasoning_tokens``. If the
    generation had ended before, nothing is changed and that end is returned; if a later
    attempt works on it, None."""
    now = timezone.now()
    with transaction.atomic():
        try:
            row = Generation.objects.select_related("message").get(pk=generation)
        except Generation.DoesNotExist:
            return End("cancelled")
        values: dict[str, Any] = {
            "finish_reason": outcome.finish_reason,
            "error": outcome.error,
            "finished_at": now,
            "timings": _timings(row, outcome, now, reasoning_ms),
        }
        if outcome.usage:
            values["prompt_tokens"] = outcome.usage.prompt_tokens
            values["cached_tokens"] = outcome.usage.cached_tokens
            values["completion_tokens"] = tokens
            values["accepted_tokens"] = outcome.usage.accepted
            values["left_out"] = outcome.usage.left_out
        advanced = Generation.advance(generation, to=outcome.state, attempt=attempt, **values)
        if not advanced:
            row.refresh_from_db()
            return None if row.state in OPEN_STATES else _as_end(row, reasoning_tokens)
        if row.message is not None:
            # Without text the answer keeps what it had before it was continued.
            row.message.content = text or row.message.content
            if Message.objects.filter(pk=row.message.pk).update(content=row.message.content):
                index.put(row.message, row.owner_id)
            Conversation.objects.filter(pk=row.message.conversation_id).update(updated_at=now)
    row.state = outcome.state.value
    for name, value in values.items():
        setattr(row, name, value)
    return _as_end(row, reasoning_tokens)


def _timings(
    row: Generation, outcome: Outcome, now: datetime, reasoning_ms: float | None
) -> dict[str, float]:
    timings = {"total": (now - row.queued_at) / timedelta(milliseconds=1)}
    if row.started_at:
        timings["queue"] = (row.started_at - row.queued_at) / timedelta(milliseconds=1)
    if outcome.usage:
        # In line, and then for a slot or for another's prefill of what both begin with.
        timings["queue"] = timings.get("queue", 0.0) + outcome.usage.queue_ms
        timings["prefill"] = outcome.usage.prefill_ms
        timings["decode"] = outcome.usage.decode_ms
    if outcome.ttft_ms is not None:
        timings["ttft"] = outcome.ttft_ms
    # A reasoning that was cut, and continued, took both times.
    reasoned = [ms for ms in (row.timings.get("reasoning"), reasoning_ms) if ms is not None]
    if reasoned:
        timings["reasoning"] = sum(reasoned)
    return {name: round(value, 1) for name, value in timings.items()}


def _as_end(row: Generation, reasoning_tokens: int) -> End:
    ended: Any = row.state
    usage = {
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "reasoning_tokens": reasoning_tokens or None,
    }
    return End(
        state=ended,
        finish_reason=row.finish_reason,
        error=row.error,
        usage={name: count for name, count in usage.items() if count is not None},
        timings=row.timings,
    )


async def conclude(queue: Queue, publisher: Publisher, writer: Writer, outcome: Outcome) -> None:
    """Ends the generation of ``writer`` everywhere, unless a later attempt has it."""
    end = await save_end(
        writer.generation,
        attempt=writer.attempt,
        text=writer.full_text(),
        tokens=writer.tokens,
        outcome=outcome,
        reasoning_ms=writer.reasoning_ms,
        reasoning_tokens=writer.reasoning_tokens,
    )
    try:
        if end is None:
            raise FencedOff(writer.generation)
        await publisher.end(writer, end)
    except FencedOff:
        log.warning("generation %s: a later attempt has it", writer.generation)
        return
    await queue.finish(writer.generation)


async def conclude_unheld(
    queue: Queue, publisher: Publisher, generation: str, *, attempt: int, outcome: Outcome
) -> None:
    """Ends a generation that no host holds, keeping the text that its stream has: one stopped
    while it waited, or given up after too many faults. ``attempt`` counts its leases so far."""
    try:
        writer = await publisher.open(generation, attempt + 1)
    except FencedOff:
        return
    await conclude(queue, publisher, writer, outcome)


async def fail_unheld(
    queue: Queue, publisher: Publisher, generation: str, attempt: int, error: ChatsiteError
) -> None:
    """The same for one that nobody can serve."""
    outcome = Outcome(GenerationState.FAILED, error=error.as_dict())
    await conclude_unheld(queue, publisher, generation, attempt=attempt, outcome=outcome)


async def end_exhausted(queue: Queue, publisher: Publisher, given_back: GivenBack) -> None:
    """Saves the end of jobs that won't be tried again: stopped by their owner, or interrupted."""
    for id in given_back.exhausted:
        job = await queue.state(id)
        if job.cancel_requested:
            outcome = Outcome(GenerationState.CANCELLED, finish_reason="cancelled")
        else:
            outcome = Outcome(GenerationState.INTERRUPTED, error=Interrupted().as_dict())
        await conclude_unheld(queue, publisher, id, attempt=job.attempt, outcome=outcome)
