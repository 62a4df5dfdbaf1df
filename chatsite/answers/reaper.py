"""The reaper: a generation that is open in SQL must be in the queue; else it is queued or ended.

Hosts recover their own jobs. The reaper finds orphans: of a process that died between saving and
queueing, of a Redis that lost its data, of a host that never restarted, of an end that could not
be saved.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from redis.exceptions import RedisError

from chatsite.answers.admission import Admitted
from chatsite.answers.outcome import Outcome, abandoned, conclude_unheld, end_exhausted
from chatsite.answers.queue.queue import Queue
from chatsite.conversations.models import Generation, GenerationState
from chatsite.errors import ChatsiteError
from chatsite.policy import quotas
from chatsite.policy.models import Reservation
from chatsite.redis_client import connect
from chatsite.stream.publish import Publisher

log = logging.getLogger(__name__)

# Younger generations may be between two regular steps.
_GRACE = timedelta(seconds=20)


# Rebuilds and admits the request of a saved generation. Raises `ChatsiteError` if that is
# impossible.
Rebuild = Callable[[Generation], Awaitable[Admitted]]


async def reap_once(rebuild: Rebuild) -> None:
    """Run `reap` once, with its own connection to Redis."""
    redis = connect()
    try:
        env = settings.ENV
        queue = Queue(redis, max_attempts=env.max_attempts, lease_ms=int(env.lease_seconds * 1000))
        await reap(queue, Publisher(redis, ended_ttl_seconds=env.stream_ttl), rebuild)
    finally:
        await redis.aclose()


async def reap(queue: Queue, publisher: Publisher, rebuild: Rebuild) -> None:
    """Run one round. Safe to run concurrently with hosts and with itself: each end is fenced.

    Raises `RedisError`, `OperationalError` or `InterfaceError` if a server is down: the next round
    retries all. Any other failure affects one generation only.
    """
    await end_exhausted(queue, publisher, await queue.reclaim_expired())
    before = timezone.now() - _GRACE
    async for row in Generation.objects.open().filter(queued_at__lt=before):
        try:
            await _reap_one(queue, publisher, row, rebuild)
        except (RedisError, OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception("Generation can't be reaped", extra={"generation": row.pk})
    await sync_to_async(_settle_orphans)()
    await sync_to_async(quotas.delete_old)()


def _settle_orphans() -> None:
    """Settle reservations whose generation has ended or is gone without having settled them.

    Its end settles a reservation in the same transaction. This finds those of a process that died
    between reserving and saving the generation, and of a generation that was deleted.
    """
    before = timezone.now() - _GRACE
    orphans = Reservation.objects.filter(created_at__lt=before).exclude(
        generation__in=Generation.objects.open().values("pk")
    )
    for generation in set(orphans.values_list("generation", flat=True)):
        row = Generation.objects.filter(pk=generation).first()
        quotas.settle(generation, _tokens(row) if row else 0)


def _tokens(row: Generation) -> int:
    return (row.prompt_tokens or 0) + (row.completion_tokens or 0)


async def _reap_one(queue: Queue, publisher: Publisher, row: Generation, rebuild: Rebuild) -> None:
    id = str(row.pk)
    job = await queue.state(id)
    if job.state in {"queued", "running"}:
        return
    # The request of an API client is not kept, and the client is gone by now.
    can_be_rebuilt = row.message_id is not None and row.state == GenerationState.QUEUED
    if job.state is None and can_be_rebuilt:
        await _queue_again(queue, publisher, row, rebuild)
        return
    outcome = abandoned(cancelled=job.cancel_requested)
    log.warning("Ending an orphaned generation", extra={"generation": id, "state": outcome.state})
    attempt = max(job.attempt, row.attempt)
    await conclude_unheld(queue, publisher, id, attempt=attempt, outcome=outcome)


async def _queue_again(
    queue: Queue, publisher: Publisher, row: Generation, rebuild: Rebuild
) -> None:
    env = settings.ENV
    try:
        admitted = await rebuild(row)
        await queue.submit(
            msgspec.structs.replace(admitted.job, request_id=row.request_id),
            queue_max=env.queue_max,
            person_max=admitted.open_requests or env.queue_max_per_person,
            weight=admitted.weight,
            priority=admitted.priority,
        )
        log.warning("Queued an orphaned generation", extra={"generation": row.pk})
    except (RedisError, OperationalError, InterfaceError):
        raise  # not the generation's fault: the next round retries it
    except ChatsiteError as error:
        await _fail(queue, publisher, row, error)
    except Exception:
        # Fail it, so that it neither blocks the rest of the round nor stays open indefinitely.
        log.exception("Generation can't be queued again", extra={"generation": row.pk})
        await _fail(queue, publisher, row, ChatsiteError())


async def _fail(queue: Queue, publisher: Publisher, row: Generation, error: ChatsiteError) -> None:
    outcome = Outcome(GenerationState.FAILED, error=error.as_dict())
    await conclude_unheld(queue, publisher, str(row.pk), attempt=row.attempt, outcome=outcome)
