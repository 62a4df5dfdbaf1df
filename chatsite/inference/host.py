"""The inference host of one machine: leases jobs, feeds engine children, publishes, saves.

The loop is `Host.run`: wake on a hint or after a second, then for each model that somebody
waits for see to it that it is loaded, and lease as many jobs as it has free slots.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from django.db import DatabaseError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.chat.models import GenerationState
from chatsite.dispatch import outcome as outcomes
from chatsite.dispatch.outcome import Outcome
from chatsite.dispatch.queue import HINT_JOBS, Lease, Queue, host_hints
from chatsite.errors import ChatsiteError, ModelUnavailable
from chatsite.inference import status, titling
from chatsite.inference.budget import Budget, fits_elsewhere
from chatsite.inference.effects import Effects
from chatsite.inference.ends import Ends
from chatsite.inference.measuring import Desk
from chatsite.inference.placement import Placement
from chatsite.inference.runner import ModelRunner
from chatsite.inference.running import Running
from chatsite.inference.spec import ModelSpec
from chatsite.stream.publish import FencedOff, Publisher

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_HEARTBEATS_PER_LEASE = 5


class Host:
    """``resolve`` turns a model's name into what to load, or raises a `ChatsiteError`;
    ``quarantine`` records that a version can't be loaded; ``first_models`` names those to
    load ahead; ``budget`` tells what models may take."""

    def __init__(
        self,
        id: str,
        redis: Redis,
        queue: Queue,
        publisher: Publisher,
        *,
        resolve: Callable[[str], Coroutine[Any, Any, ModelSpec]],
        quarantine: Callable[[str, str], Coroutine[Any, Any, Any]],
        first_models: Callable[[], Coroutine[Any, Any, list[str]]],
        keep_loaded: int,
        lease_seconds: float,
        budget: Budget,
    ) -> None:
        self.id = id
        self._redis = redis
        self._queue = queue
        self._publisher = publisher
        self._ends = Ends(id, queue, publisher)
        self._quarantine = quarantine
        self._first_models = first_models
        self._budget = budget
        self._heartbeat_seconds = lease_seconds / _HEARTBEATS_PER_LEASE
        self._wake = asyncio.Event()
        self._announce = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._draining = False
        # What an administrator asked for, done by `_serve`, which alone starts and ends runners.
        self._to_load: dict[str, float | None] = {}
        self._to_unload: set[str] = set()
        self._tended_at = 0.0
        effects = Effects(
            ended=lambda running, outcome: self._spawn(self._conclude(running, outcome)),
            died=lambda lost: self._spawn(self._ends.give_back(lost, fault=True)),
            broken=lambda spec, reason: self._spawn(self._broken(spec, reason)),
            demoted=self._demoted,
            changed=self._changed,
            publisher=publisher,
        )
        self.placement = Placement(
            resolve, effects, keep_loaded, budget.room, budget.devices, budget.layers
        )
        self._desk = Desk(id, redis, self.placement)
        self._titler = titling.Titler(self.placement)

    # Life.

    async def run(self) -> None:
        """Serves until cancelled; then gives back what is under way and ends the children."""
        await self._recover()
        await self._preload()
        try:
            # One that fails ends all: the supervisor starts the process anew, and nothing of it
            # goes on without, say, its heartbeat.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publisher.run(), name="publish")
                steps = (self._listen, self._beat, self._tell, self._serve)
                for step in (*steps, self._desk.serve, self._titler.serve):
                    group.create_task(self._forever(step), name=step.__name__)
        finally:
            self._draining = True
            await self._drain()

    async def _forever(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await step()
            except (RedisError, DatabaseError) as error:
                log.warning("Redis or the database does not answer: %s. Trying again.", error)
                await asyncio.sleep(0.5)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("unexpected failure", exc_info=error)

    def _changed(self) -> None:
        self._wake.set()
        self._announce.set()

    async def _recover(self) -> None:
        """What an earlier process of this host held is free at once, not after its lease."""
        while True:
            try:
                await self._ends.settle(await self._queue.reclaim_host(self.id))
                return
            except RedisError as error:
                log.warning("Redis does not answer: %s. Trying again.", error)
                await asyncio.sleep(0.5)

    async def _preload(self) -> None:
        """Begins to load what is wanted before anybody asks for it."""
        try:
            names = await self._first_models()
        except DatabaseError as error:
            log.warning("no model is loaded ahead: %s", error)
            return
        for name in names:
            try:
                await self.placement.runner_for(name)
            except (ChatsiteError, DatabaseError) as error:
                log.warning("%s is not loaded ahead: %s", name, error)

    async def _drain(self) -> None:
        left = await self.placement.stop_all()
        try:
            await self._publisher.flush()
            await self._ends.give_back(left, fault=False)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            await status.withdraw(self._redis, self.id)
        except RedisError as error:
            log.warning("Redis left first (%s); the jobs' leases will run out", error)

    # Serving.

    async def _serve(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)
        except TimeoutError:
            pass
        self._wake.clear()
        for digest in tuple(self._to_unload):
            self._to_unload.discard(digest)
            if await self.placement.unload(digest):
                self._announce.set()
        names = {*await self._queue.models(), *self._to_load}
        self.placement.in_line(names)
        if time.monotonic() - self._tended_at >= _POLL_SECONDS:
            self._tended_at = time.monotonic()
            await self.placement.tend()
        for name in names:
            try:
                runner = await self.placement.runner_for(name)
            except ChatsiteError as error:
                self._to_load.pop(name, None)
                self._announce.set()
                if not await fits_elsewhere(self._redis, self.id, name, error):
                    await self._ends.refuse_all(name, error)
                continue
            if runner is not None:
                if (seconds := self._to_load.pop(name, None)) is not None:
                    runner.keep_alive = seconds
                await self._fill(name, runner)

    async def _fill(self, name: str, runner: ModelRunner) -> None:
        while runner.free_slots > 0 and not self._draining:
            lease = await self._ends.lease(name)
            if lease is None:
                runner.suspect_waits = False
                return
            runner.suspect_waits = lease.last_chance and not runner.idle
            if runner.suspect_waits:
                held = [(lease.job.id, lease.attempt)]
                await self._ends.settle(await self._queue.give_back(self.id, held, fault=False))
                return
            await self._begin(runner, lease)

    async def _begin(self, runner: ModelRunner, lease: Lease) -> None:
        id = lease.job.id
        try:
            writer = await self._publisher.open(id, lease.attempt, runner.syntax)
        except FencedOff:
            log.warning("generation %s: a later attempt has it", id)
            return
        if lease.job.written and not writer.text:
            # A stream holds the whole answer, whoever reads it from whichever cursor.
            self._publisher.append(writer, lease.job.written, tokens=0)
        beginning = asyncio.create_task(
            outcomes.save_start(
                id, attempt=lease.attempt, version=runner.spec.digest, syntax=runner.syntax
            )
        )
        running = Running(lease, writer, beginning, runner.syntax)
        # A first attempt can't have ended: it may start while its row is being written. A later
        # one may come after the end was saved and before the stream was told.
        if lease.attempt > 1 and not await beginning:
            await outcomes.conclude(
                self._queue, self._publisher, writer, Outcome(GenerationState.INTERRUPTED)
            )
            return
        await runner.take(running)

    # Ends.

    async def _conclude(self, running: Running, outcome: Outcome) -> None:
        if await self._ends.conclude(running, outcome):
            self._titler.answered(running, outcome)

    def _demoted(self, spec: ModelSpec, reason: str) -> None:
        self.placement.demote(spec.digest, reason)
        self._to_load.setdefault(spec.name, None)
        self._wake.set()

    async def _broken(self, spec: ModelSpec, reason: str) -> None:
        log.error("%s is quarantined: %s", spec.name, reason)
        await self._quarantine(spec.digest, reason)
        self.placement.forget(spec.digest)
        await self._ends.refuse_all(spec.name, ModelUnavailable())

    # Talking to the others.

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(HINT_JOBS, host_hints(self.id))
            while True:
                message = await pubsub.get_message(timeout=10)
                if message is None:
                    continue
                verb, _, id = message["data"].decode().partition(" ")
                if message["channel"].decode() == HINT_JOBS:
                    self._wake.set()
                elif verb == "cancel":
                    await self.placement.cancel(id)
                elif verb == "load":
                    name, _, seconds = id.partition(" ")
                    self._to_load[name] = float(seconds) if seconds else None
                    self._wake.set()
                elif verb == "unload":
                    self._to_unload.add(id)
                    self._wake.set()
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _beat(self) -> None:
        await asyncio.sleep(self._heartbeat_seconds)
        held = [
            (running.lease.job.id, running.lease.attempt)
            for running in (*self.placement.running(), *self._ends.under_way())
        ]
        for (id, _), answer in zip(held, await self._queue.heartbeat(self.id, held), strict=True):
            if answer == "cancel":
                await self.placement.cancel(id)
            elif answer == "lost":
                log.warning("generation %s was given to another host", id)
                await self.placement.drop(id)
        await self._ends.settle(await self._queue.reclaim_expired())

    async def _tell(self) -> None:
        try:
            await asyncio.wait_for(self._announce.wait(), status.ANNOUNCE_SECONDS)
            await asyncio.sleep(0.1)
        except TimeoutError:
            pass
        self._announce.clear()
        await status.announce(
            self._redis,
            status.HostStatus(
                id=self.id,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                models=self.placement.statuses(),
                memory=self._budget.status(self.placement.committed),
                devices=self._budget.device_status(self.placement.on_devices),
            ),
        )
