"""The only way to queue a request for an answer, and the only way to stop it."""

from __future__ import annotations

import logging
from collections.abc import Collection

import msgspec
from asgiref.sync import async_to_sync
from django.conf import settings
from redis.exceptions import RedisError

from chatsite import logs, tracing
from chatsite.accounts.models import User
from chatsite.answers.admission import Admitted
from chatsite.answers.outcome import Outcome, conclude_unheld
from chatsite.answers.queue.queue import BATCH_BAND, Queue
from chatsite.answers.runtime import Runtime
from chatsite.conversations.models import OPEN_STATES, Generation, GenerationState
from chatsite.engine.contract.messages import BATCH, STOPPED_BY_ADMINISTRATOR
from chatsite.errors import MessageNotFound, StreamsUnavailable
from chatsite.faults import queue_fault
from chatsite.redis_client import connect
from chatsite.stream.publish import Publisher

log = logging.getLogger(__name__)


async def enqueue(runtime: Runtime, admitted: Admitted) -> int:
    """Queue a saved and admitted generation; return how many requests are ahead of it.

    The ID of the current request travels with it, so that the log lines of the host have it too.

    Raises as `Queue.submit`, and `StreamsUnavailable` or `StorageFull`. Nothing is queued then.
    """
    job = msgspec.structs.replace(
        admitted.job, request_id=logs.request_id.get(), traceparent=tracing.traceparent()
    )
    try:
        ahead = await runtime.queue.submit(
            job,
            queue_max=settings.ENV.queue_max,
            person_max=admitted.open_requests or settings.ENV.queue_max_per_person,
            person_bytes=settings.ENV.queue_mb_per_person << 20,
            weight=admitted.weight,
            priority=BATCH_BAND if job.priority == BATCH else admitted.priority,
        )
    except RedisError as error:
        raise queue_fault(error) from error
    log.debug("Request queued", extra={"generation": job.id, "model": job.model, "ahead": ahead})
    return ahead


async def stop(runtime: Runtime, user: User, generation: str) -> None:
    """Stop a user's answer; does nothing if it has ended. Raises `MessageNotFound`."""
    row = await Generation.objects.of(user).filter(pk=generation).afirst()
    if row is None:
        raise MessageNotFound
    await stop_request(runtime.queue, runtime.publisher, row)


async def stop_as_administrator(queue: Queue, publisher: Publisher, generation: str) -> bool:
    """Stop any user's answer and show its owner why; the caller has checked the permission.

    False if it has already ended. Raises `StreamsUnavailable`.
    """
    still_open = Generation.objects.open().filter(pk=generation)
    # Saved first: the host that holds it gets only the cancellation, without the reason.
    if not await still_open.aupdate(finish_reason=STOPPED_BY_ADMINISTRATOR):
        return False
    try:
        await stop_request(queue, publisher, await Generation.objects.aget(pk=generation))
    except StreamsUnavailable:
        await still_open.aupdate(finish_reason="")  # it keeps running; its owner may stop it
        raise
    return True


def stop_from_thread(generation: str) -> bool:
    """Call `stop_as_administrator` from a thread without an event loop."""

    async def ask() -> bool:
        redis = connect()
        queue = Queue(redis, max_attempts=settings.ENV.max_attempts)
        publisher = Publisher(redis, ended_ttl_seconds=settings.ENV.stream_ttl)
        try:
            return await stop_as_administrator(queue, publisher, generation)
        finally:
            await redis.aclose()

    return async_to_sync(ask)()


def stop_answers_of(user_ids: Collection[int]) -> int:
    """Stop all open answers of users whose access has ended; return their number.

    Called from a thread without an event loop. Raises `StreamsUnavailable`: the answers then end by
    themselves, and nobody can read them.
    """

    async def ask() -> int:
        rows = [row async for row in Generation.objects.open().filter(owner_id__in=user_ids)]
        if not rows:
            return 0
        redis = connect()
        queue = Queue(redis, max_attempts=settings.ENV.max_attempts)
        publisher = Publisher(redis, ended_ttl_seconds=settings.ENV.stream_ttl)
        try:
            for row in rows:
                await stop_request(queue, publisher, row)
        finally:
            await redis.aclose()
        return len(rows)

    return async_to_sync(ask)()


async def stop_request(queue: Queue, publisher: Publisher, row: Generation) -> None:
    """Stop a generation; does nothing if it has ended. Raises `StreamsUnavailable`."""
    if row.state not in OPEN_STATES:
        return
    id = str(row.pk)
    try:
        cancelled = await queue.cancel(id)
        if cancelled.where != "running":
            await conclude_unheld(
                queue,
                publisher,
                id,
                attempt=max(cancelled.attempt, row.attempt),
                outcome=Outcome(GenerationState.CANCELLED, finish_reason="cancelled"),
            )
    except RedisError as error:
        raise queue_fault(error) from error
