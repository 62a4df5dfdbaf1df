"""What all sockets of one web process share: Redis, the queue, and the reader of the streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from django.conf import settings
from redis.asyncio import Redis

from chatsite.chat.attachments.extract import AT_ONCE
from chatsite.dispatch.connection import connect
from chatsite.dispatch.queue import Queue
from chatsite.inference import status
from chatsite.stream.hub import Hub, Place
from chatsite.stream.publish import Publisher


@dataclass(frozen=True)
class Runtime:
    redis: Redis
    queue: Queue
    publisher: Publisher
    hub: Hub
    # Files that may be read at once; see `attachments.extract`.
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def close(self) -> None:
        await self.hub.close()
        await self.redis.aclose()


_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()


def runtime() -> Runtime:
    """The one of the running event loop, made when first asked for."""
    loop = asyncio.get_running_loop()
    found = _runtimes.get(loop)
    if found is None:
        redis = connect()
        queue = Queue(redis, max_attempts=settings.ENV.max_attempts)
        found = _runtimes[loop] = Runtime(
            redis,
            queue,
            Publisher(redis, ended_ttl_seconds=settings.ENV.stream_ttl),
            Hub(redis, lambda waiting: waiting_line(redis, queue, waiting)),
        )
    return found


async def close_runtime() -> None:
    """Ends the running loop's runtime, if it has one."""
    found = _runtimes.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


async def waiting_line(
    redis: Redis, queue: Queue, waiting: list[tuple[str, str]]
) -> list[Place | None]:
    """Where (model, generation) pairs stand; None for those that wait no more."""
    places = await queue.places(waiting)
    hosts = await status.alive(redis)
    answers: list[Place | None] = []
    for (model, _), ahead in zip(waiting, places, strict=True):
        known = status.best(hosts, model)
        if ahead is None:
            answers.append(None)
        elif known is None:
            answers.append(Place(ahead, "waiting"))
        else:
            seconds = status.seconds_in_line(hosts, model, ahead)
            told = None if seconds is None else round(seconds)
            answers.append(Place(ahead, known.state, known.progress, told))
    return answers
