"""How the jobs of a host end: saved and told, given back, or refused to all who wait."""

from __future__ import annotations

import asyncio
import logging

from django.db import DatabaseError
from redis.exceptions import RedisError

from chatsite.dispatch import outcome as outcomes
from chatsite.dispatch.outcome import Outcome
from chatsite.dispatch.queue import GivenBack, Lease, Queue, UnreadableJob
from chatsite.errors import ChatsiteError, EngineFailed
from chatsite.inference.running import Running
from chatsite.stream.publish import FencedOff, Publisher

log = logging.getLogger(__name__)


class Ends:
    """``host`` is the id under which jobs are leased."""

    def __init__(self, host: str, queue: Queue, publisher: Publisher) -> None:
        self._host = host
        self._queue = queue
        self._publisher = publisher
        self._under_way: dict[str, Running] = {}

    def under_way(self) -> list[Running]:
        """What is being saved; its leases are still held."""
        return list(self._under_way.values())

    async def conclude(self, running: Running, outcome: Outcome) -> bool:
        """Saves an end however long SQL or Redis is away; the lease is kept meanwhile. False if
        a later attempt has the job."""
        id = running.lease.job.id
        self._under_way[id] = running
        try:
            await asyncio.wait([running.beginning])
            while True:
                try:
                    if running.vectors is not None:
                        await self._publisher.vectors(running.writer, running.vectors)
                        running.vectors = None
                    await outcomes.conclude(self._queue, self._publisher, running.writer, outcome)
                    return True
                except FencedOff:
                    log.warning("generation %s: a later attempt has it", id)
                    return False
                except (RedisError, DatabaseError) as error:
                    log.error("the end of generation %s can't be saved yet: %s", id, error)
                    await asyncio.sleep(1)
        finally:
            del self._under_way[id]

    async def give_back(self, held: list[Running], *, fault: bool) -> None:
        if not held:
            return
        await self._publisher.flush()
        pairs = [(running.lease.job.id, running.lease.attempt) for running in held]
        await self.settle(await self._queue.give_back(self._host, pairs, fault=fault))

    async def settle(self, given_back: GivenBack) -> None:
        """Ends what was given back too often."""
        await outcomes.end_exhausted(self._queue, self._publisher, given_back)

    async def lease(self, model: str) -> Lease | None:
        """The next job that can be read; the others fail."""
        while True:
            try:
                return await self._queue.lease(model, self._host)
            except UnreadableJob as error:
                log.error("%s: %s", error, error.__cause__)
                failed = (error.id, error.attempt, EngineFailed())
                await outcomes.fail_unheld(self._queue, self._publisher, *failed)

    async def refuse_all(self, model: str, error: ChatsiteError) -> None:
        """Nobody can serve this model: all who wait are told, and why."""
        while lease := await self.lease(model):
            failed = (lease.job.id, lease.attempt, error)
            await outcomes.fail_unheld(self._queue, self._publisher, *failed)
