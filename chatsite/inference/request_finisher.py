"""How the jobs of a host end: saved and published, given back, or all refused."""

from __future__ import annotations

import asyncio
import logging

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from redis.exceptions import RedisError

from chatsite.answers import outcome as outcomes
from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.queue import GivenBack, Lease, Queue, UnreadableRequest
from chatsite.answers.queue.request import PROBE_MODEL
from chatsite.database import renew_failed_connection
from chatsite.errors import ChatsiteError, EngineFailed
from chatsite.inference.running_request import RunningRequest
from chatsite.stream.publish import Publisher, StaleWriter

log = logging.getLogger(__name__)


class RequestFinisher:
    """Ends the jobs that are leased under the host ID ``host``."""

    def __init__(self, host: str, queue: Queue, publisher: Publisher) -> None:
        self._host = host
        self._queue = queue
        self._publisher = publisher
        self._under_way: dict[str, RunningRequest] = {}

    def finishing(self) -> list[RunningRequest]:
        """Return the requests whose end is being saved; their leases are still held."""
        return list(self._under_way.values())

    async def conclude(self, running: RunningRequest, outcome: Outcome) -> bool:
        """Save the end, retrying while SQL or Redis is down; the lease is kept meanwhile.

        False if a later attempt has the job.
        """
        id = running.lease.job.id
        self._under_way[id] = running
        try:
            await asyncio.wait([running.beginning])
            while True:
                try:
                    if running.vectors is not None:
                        await self._publisher.vectors(running.writer, running.vectors)
                        running.vectors = None
                    return await outcomes.conclude(
                        self._queue, self._publisher, running.writer, outcome
                    )
                except StaleWriter:
                    log.warning(
                        "Generation superseded by a newer attempt", extra={"generation": id}
                    )
                    return False
                except (RedisError, DatabaseError) as error:
                    log.error(
                        "Outcome can't be saved; retrying",
                        extra={"generation": id, "error": error},
                    )
                    await sync_to_async(renew_failed_connection)()
                    await asyncio.sleep(1)
        finally:
            del self._under_way[id]

    async def give_back(self, held: list[RunningRequest], *, fault: bool) -> None:
        if not held:
            return
        await self._publisher.flush()
        pairs = [(running.lease.job.id, running.lease.attempt) for running in held]
        await self.handle_given_back(await self._queue.give_back(self._host, pairs, fault=fault))

    async def return_leased(self, held: list[tuple[str, int]]) -> None:
        """Give back jobs, as (ID, attempt), that were leased and not begun."""
        await self.handle_given_back(await self._queue.give_back(self._host, held, fault=False))

    async def handle_given_back(self, given_back: GivenBack) -> None:
        """End the jobs that were given back too often."""
        await outcomes.end_exhausted(self._queue, self._publisher, given_back)

    async def lease(self, model: str) -> Lease | None:
        """Return the next job that can be decoded; fail those that can't."""
        while True:
            try:
                return await self._queue.lease(model, self._host)
            except UnreadableRequest as error:
                log.error(
                    "Queued request can't be decoded",
                    extra={"generation": error.id, "error": error.__cause__},
                )
                failed = (error.id, error.attempt, EngineFailed())
                await outcomes.fail_unheld(self._queue, self._publisher, *failed)

    async def answer_probes(self) -> None:
        """Finish the queued health checks: they need no engine, and nobody reads a text."""
        while lease := await self.lease(PROBE_MODEL):
            await self._queue.finish(lease.job.id, lease.attempt)

    async def refuse_all(self, model: str, error: ChatsiteError) -> None:
        """Fail all queued jobs of a model that no host can serve, with the reason."""
        while lease := await self.lease(model):
            failed = (lease.job.id, lease.attempt, error)
            await outcomes.fail_unheld(self._queue, self._publisher, *failed)
