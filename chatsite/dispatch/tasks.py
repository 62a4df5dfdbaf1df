"""The reaper: what SQL calls open must be in the queue, or it is put there, or it is ended.

Hosts look after their own jobs. This finds what nobody looks after any more: a process that
died between saving and queueing, a Redis that lost its data, a host that never came back.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from redis.exceptions import RedisError

from chatsite.celery import app
from chatsite.chat import turns
from chatsite.chat.models import Generation, GenerationState
from chatsite.dispatch.connection import connect
from chatsite.dispatch.outcome import Outcome, conclude_unheld, end_exhausted
from chatsite.dispatch.queue import Queue
from chatsite.errors import ChatsiteError, Interrupted
from chatsite.stream.publish import Publisher

log = logging.getLogger(__name__)

# Younger ones may be between two steps of their ordinary life.
_GRACE = timedelta(seconds=20)


@app.task(ignore_result=True)
def reap_generations() -> None:
    asyncio.run(_reap_once())


async def _reap_once() -> None:
    redis = connect()
    try:
        env = settings.ENV
        queue = Queue(redis, max_attempts=env.max_attempts, lease_ms=int(env.lease_seconds * 1000))
        await reap(queue, Publisher(redis, ended_ttl_seconds=env.stream_ttl))
    finally:
        await redis.aclose()


async def reap(queue: Queue, publisher: Publisher) -> None:
    """One round. Safe to run beside hosts and beside itself: each end is fenced."""
    await end_exhausted(queue, publisher, await queue.reclaim_expired())
    before = timezone.now() - _GRACE
    async for row in Generation.objects.open().filter(queued_at__lt=before):
        id = str(row.pk)
        job = await queue.state(id)
        if job.state in {"queued", "running"}:
            continue
        # What a program asked for is not kept, and whoever waited for it is gone by now.
        can_be_rebuilt = row.message_id is not None and row.state == GenerationState.QUEUED
        if job.state is None and can_be_rebuilt:
            await _queue_again(queue, publisher, row)
            continue
        log.warning("generation %s is held by nobody: interrupted", id)
        outcome = Outcome(GenerationState.INTERRUPTED, error=Interrupted().as_dict())
        attempt = max(job.attempt, row.attempt)
        await conclude_unheld(queue, publisher, id, attempt=attempt, outcome=outcome)


async def _queue_again(queue: Queue, publisher: Publisher, row: Generation) -> None:
    env = settings.ENV
    try:
        job = await sync_to_async(lambda: turns.job(turns.turn_of(row)))()
        await queue.submit(job, queue_max=env.queue_max, person_max=env.queue_max_per_person)
        log.warning("generation %s was saved but not queued: queued now", job.id)
    except (RedisError, OperationalError, InterfaceError):
        raise  # nothing is wrong with this one: the next round has it again
    except ChatsiteError as error:
        await _fail(queue, publisher, row, error)
    except Exception:
        # The others of the round must not wait for it, nor this one for ever.
        log.exception("generation %s can't be made again", row.pk)
        await _fail(queue, publisher, row, ChatsiteError())


async def _fail(queue: Queue, publisher: Publisher, row: Generation, error: ChatsiteError) -> None:
    outcome = Outcome(GenerationState.FAILED, error=error.as_dict())
    await conclude_unheld(queue, publisher, str(row.pk), attempt=row.attempt, outcome=outcome)
