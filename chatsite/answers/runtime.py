"""What all sockets of one web process share: Redis, the queue and the stream reader."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from django.conf import settings
from redis.asyncio import Redis

from chatsite.answers.outcome import saved_ends
from chatsite.answers.queue.queue import Queue
from chatsite.documents.errors import ReadersBusy
from chatsite.documents.extract import AT_ONCE, WAIT_SECONDS
from chatsite.fair_slots import FairSlots
from chatsite.hosts import status
from chatsite.redis_client import connect
from chatsite.stream.hub import Hub, QueuePosition
from chatsite.stream.publish import Publisher

# Large request bodies held in memory concurrently.
_BODIES: Final = 4


@dataclass(frozen=True)
class Runtime:
    redis: Redis
    queue: Queue
    publisher: Publisher
    hub: Hub
    # Limits of concurrent file reads and large request bodies.
    reading: FairSlots = field(
        default_factory=lambda: FairSlots(AT_ONCE, seconds=WAIT_SECONDS, busy=ReadersBusy)
    )
    bodies: FairSlots = field(default_factory=lambda: FairSlots(_BODIES))

    async def close(self) -> None:
        await self.hub.close()
        await self.redis.aclose()


_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()


def runtime() -> Runtime:
    """Return the running event loop's runtime, created on first use."""
    loop = asyncio.get_running_loop()
    found = _runtimes.get(loop)
    if found is None:
        redis = connect()
        queue = Queue(redis, max_attempts=settings.ENV.max_attempts)
        found = _runtimes[loop] = Runtime(
            redis,
            queue,
            Publisher(redis, ended_ttl_seconds=settings.ENV.stream_ttl),
            Hub(redis, lambda waiting: waiting_line(redis, queue, waiting), saved_ends),
        )
    return found


async def close_runtime() -> None:
    """Close the running loop's runtime, if it has one."""
    found = _runtimes.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


async def waiting_line(
    redis: Redis, queue: Queue, waiting: list[tuple[str, str]]
) -> list[QueuePosition | None]:
    """Return the queue positions of (model, generation) pairs; None for running ones."""
    places = await queue.positions(waiting)
    hosts = await status.alive(redis)
    answers: list[QueuePosition | None] = []
    for (model, _), ahead in zip(waiting, places, strict=True):
        known = status.best(hosts, model)
        if known is None:
            # No host is alive, even if one had started it.
            answers.append(QueuePosition(ahead or 0, "waiting"))
        elif ahead is None:
            answers.append(None)
        else:
            seconds = status.seconds_in_line(hosts, model, ahead)
            told = None if seconds is None else round(seconds)
            answers.append(QueuePosition(ahead, known.state, known.progress, told))
    return answers
