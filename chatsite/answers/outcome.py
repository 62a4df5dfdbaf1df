"""How the start and end of a generation are saved: SQL first, then the stream, then the queue.

In this order a crash between any two steps leaves a state that a later attempt or the reaper
can finish: the text is in SQL before any reader gets the end.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.db.models import DateTimeField, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from chatsite.answers.queue.queue import GivenBack, Queue
from chatsite.conversations import citation_marks
from chatsite.conversations.models import (
    OPEN_STATES,
    Conversation,
    Generation,
    GenerationState,
    Message,
    Via,
)
from chatsite.engine.contract.messages import PLAIN, OutputSyntax, Usage
from chatsite.errors import ChatsiteError, Interrupted
from chatsite.policy import quotas
from chatsite.search import index
from chatsite.stream.entries import End
from chatsite.stream.publish import Publisher, StaleWriter, Writer

log = logging.getLogger(__name__)

# Of the column, a small integer.
_MARKS_MAX: Final = 32_767


@dataclass(frozen=True)
class Outcome:
    """How a generation ended.

    ``ttft_ms`` is the time from queueing the request to its first text; None without text.
    """

    state: GenerationState
    finish_reason: str = ""
    error: dict[str, Any] | None = None
    usage: Usage | None = None
    ttft_ms: float | None = None


@sync_to_async
def save_start(
    generation: str,
    *,
    attempt: int,
    version: str,
    syntax: OutputSyntax = PLAIN,
    engine: str | None = None,
) -> bool:
    """Advance queued → running, or running → running on a later attempt; False if it has ended.

    ``engine`` is the name of the remote engine that computes it, if one does.
    """
    now = Value(timezone.now(), output_field=DateTimeField())
    return Generation.advance(
        generation,
        to=GenerationState.RUNNING,
        attempt=attempt,
        started_at=Coalesce("started_at", now),
        model_version=version,
        engine=engine,
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
    """Save text and outcome in one transaction; return the stream's last entry.

    ``reasoning_tokens`` are in that entry only. If the generation has already ended, nothing is
    changed and its saved end is returned (see `_saved_end`); if a later attempt runs it, None.
    """
    now = timezone.now()
    with transaction.atomic():
        try:
            row = Generation.objects.select_related("message").get(pk=generation)
        except Generation.DoesNotExist:
            quotas.release(generation)
            return End("cancelled")
        stopped = outcome.state == GenerationState.CANCELLED
        values: dict[str, Any] = {
            # An open generation has one only if an administrator stops it.
            "finish_reason": (row.finish_reason if stopped else "") or outcome.finish_reason,
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
            return None if row.state in OPEN_STATES else _saved_end(row, tokens, reasoning_tokens)
        # Without usage the engine was lost: what was written counts, its prompt does not.
        prompted = outcome.usage.prompt_tokens if outcome.usage else 0
        quotas.settle(generation, prompted + tokens)
        if row.message is not None:
            # Without new text, a continued answer keeps the text that it had.
            row.message.content = text or row.message.content
            saved = Message.objects.filter(pk=row.message.pk).update(**_saved_text(row.message))
            if saved and row.owner_id is not None:
                index.put(row.message, row.owner_id)
            Conversation.objects.filter(pk=row.message.conversation_id).update(updated_at=now)
    row.state = outcome.state.value
    for name, value in values.items():
        setattr(row, name, value)
    return _as_end(row, reasoning_tokens)


@sync_to_async
def saved_ends(generations: list[str]) -> dict[str, End]:
    """Return the ends of those generations that have ended, by ID."""
    rows = Generation.objects.filter(pk__in=generations).exclude(state__in=OPEN_STATES)
    return {str(row.pk): _as_end(row, 0) for row in rows}


def _saved_text(message: Message) -> dict[str, Any]:
    """Return the fields of an ended answer; it loses the citations of passages it did not get."""
    if message.passages is not None:
        message.content, removed = citation_marks.clean(message.content, message.passages)
        message.marks_removed = min((message.marks_removed or 0) + removed, _MARKS_MAX)
        return {"content": message.content, "marks_removed": message.marks_removed}
    return {"content": message.content}


def _timings(
    row: Generation, outcome: Outcome, now: datetime, reasoning_ms: float | None
) -> dict[str, float]:
    timings = {"total": (now - row.queued_at) / timedelta(milliseconds=1)}
    if row.started_at:
        timings["queue"] = (row.started_at - row.queued_at) / timedelta(milliseconds=1)
    if outcome.usage:
        # Time in the queue, then the wait for a slot or for another sequence's prefill of a shared
        # prefix.
        timings["queue"] = timings.get("queue", 0.0) + outcome.usage.queue_ms
        timings["prefill"] = outcome.usage.prefill_ms
        timings["decode"] = outcome.usage.decode_ms
    if outcome.ttft_ms is not None:
        timings["ttft"] = outcome.ttft_ms
    # Reasoning that was cut and continued took the sum of both times.
    reasoned = [ms for ms in (row.timings.get("reasoning"), reasoning_ms) if ms is not None]
    if reasoned:
        timings["reasoning"] = sum(reasoned)
    return {name: round(value, 1) for name, value in timings.items()}


def _saved_end(row: Generation, tokens: int, reasoning_tokens: int) -> End:
    """Return the end that an earlier attempt saved, for a stream whose text has ``tokens``.

    That attempt may have died before its last text was published. SQL has the text of a chat
    message; the text of an API request is in its stream only, and must not end as if it were whole.
    """
    end = _as_end(row, reasoning_tokens)
    if row.message_id is None and end.state == "done" and tokens < (row.completion_tokens or 0):
        error = Interrupted().as_dict()
        return msgspec.structs.replace(end, state="interrupted", finish_reason="", error=error)
    return end


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


async def conclude(queue: Queue, publisher: Publisher, writer: Writer, outcome: Outcome) -> bool:
    """End the writer's generation in SQL, stream and queue; False if a later attempt has it.

    May be called again after a failure: completed steps are recognized.
    """
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
            raise StaleWriter(writer.generation)
        await publisher.end(writer, end)
    except StaleWriter:
        log.warning(
            "Generation superseded by a newer attempt", extra={"generation": writer.generation}
        )
        return False
    await queue.finish(writer.generation)
    return True


async def conclude_unheld(
    queue: Queue, publisher: Publisher, generation: str, *, attempt: int, outcome: Outcome
) -> None:
    """End a generation that no host holds, keeping the text in its stream.

    It was stopped while queued, or given up after too many faults. ``attempt`` is the number of
    its leases so far; an earlier call that could not save the end may have opened later attempts.
    """
    writer = await publisher.take_over(generation, attempt + 1)
    if await Generation.objects.filter(pk=generation, via=Via.TEMPORARY).aexists():
        writer.ended_ttl_seconds = settings.ENV.temporary_seconds
    await conclude(queue, publisher, writer, outcome)


async def fail_unheld(
    queue: Queue, publisher: Publisher, generation: str, attempt: int, error: ChatsiteError
) -> None:
    """End a generation that no host can serve, as `conclude_unheld`."""
    outcome = Outcome(GenerationState.FAILED, error=error.as_dict())
    await conclude_unheld(queue, publisher, generation, attempt=attempt, outcome=outcome)


async def end_exhausted(queue: Queue, publisher: Publisher, given_back: GivenBack) -> None:
    """Save the end of jobs that are not retried: stopped by their owner, or interrupted."""
    for id in given_back.exhausted:
        job = await queue.state(id)
        outcome = abandoned(cancelled=job.cancel_requested)
        await conclude_unheld(queue, publisher, id, attempt=job.attempt, outcome=outcome)


def abandoned(*, cancelled: bool) -> Outcome:
    """Return the outcome of a generation that no process holds any more."""
    if cancelled:
        return Outcome(GenerationState.CANCELLED, finish_reason="cancelled")
    return Outcome(GenerationState.INTERRUPTED, error=Interrupted().as_dict())
