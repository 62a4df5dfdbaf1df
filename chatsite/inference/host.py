"""The inference host of one machine: leases jobs, feeds engine children, publishes, saves.

The loop is `Host._serve`: wake on a hint or after a second, then for each model with queued jobs
ensure that it is loaded, and lease as many jobs as it has free slots.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite import logs
from chatsite.answers import outcome as outcomes
from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.queue import Lease, Queue
from chatsite.answers.queue.request import PROBE_MODEL
from chatsite.capacity import machine
from chatsite.capacity.budget import Budget
from chatsite.conversations.models import GenerationState
from chatsite.database import renew_failed_connection
from chatsite.engine.contract.messages import BATCH, OutputSyntax
from chatsite.errors import ChatsiteError, ModelFileMissing, ModelUnavailable
from chatsite.hosts import status
from chatsite.hosts.status import fits_elsewhere
from chatsite.inference import answer_spans, titling
from chatsite.inference.engines.pool import Counter, RemoteEngines
from chatsite.inference.file_fetcher import FileFetcher, held
from chatsite.inference.model_spec import ModelSpec, RemoteModelRequested
from chatsite.inference.placement import Placement
from chatsite.inference.replicas import Replicas
from chatsite.inference.request_finisher import RequestFinisher
from chatsite.inference.runner import ModelRunner
from chatsite.inference.runner_callbacks import RunnerCallbacks
from chatsite.inference.running_request import RunningRequest
from chatsite.inference.token_count_service import TokenCountService
from chatsite.redis_keys import HINT_JOBS, host_hints
from chatsite.stream.publish import Publisher, StaleWriter
from chatsite.supervisor import heartbeat

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_HEARTBEATS_PER_LEASE = 10
_DRAIN_POLL_SECONDS = 0.1
# Part of the lease time after which a silent host's leases expire. The rest is for the hosts that
# notice it, begin the next attempt and prefill the text so far: an answer continues within the
# lease time, also on busy processors.
LEASE_PART = 0.6
_RECLAIM_SECONDS = 0.5


class Target(Protocol):
    """Where a leased job is computed: a loaded model, or a place at a remote engine."""

    @property
    def digest(self) -> str: ...

    @property
    def syntax(self) -> OutputSyntax: ...

    @property
    def engine_name(self) -> str | None: ...

    async def submit(self, running: RunningRequest) -> None: ...


class Host:
    """The serving loop and its helper tasks.

    ``resolve`` returns what to load for a model's name, or raises a `ChatsiteError`; ``quarantine``
    records that a version can't be loaded; ``first_models`` returns the names to preload;
    ``budget`` computes the memory available to models.
    """

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
        files_url: str = "",
    ) -> None:
        self.id = id
        self._redis = redis
        self._queue = queue
        self._publisher = publisher
        self._finisher = RequestFinisher(id, queue, publisher)
        self._quarantine = quarantine
        self._first_models = first_models
        self._budget = budget
        self._heartbeat_seconds = lease_seconds / _HEARTBEATS_PER_LEASE
        self._wake = asyncio.Event()
        self._announce = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._draining = False
        # Requested by an administrator; executed by `_serve`, the only task that starts and ends
        # runners.
        self._to_load: dict[str, float | None] = {}
        self._to_unload: set[str] = set()
        self._tended_at = 0.0
        effects = RunnerCallbacks(
            ended=lambda running, outcome: self._spawn(self._conclude(running, outcome)),
            died=lambda lost: self._spawn(self._finisher.give_back(lost, fault=True)),
            broken=lambda spec, reason: self._spawn(self._broken(spec, reason)),
            demoted=self._demoted,
            changed=self._changed,
            publisher=publisher,
        )
        self.placement = Placement(
            resolve, effects, keep_loaded, budget.room, budget.devices, budget.layers
        )
        self._files_url = files_url
        self._fetcher = FileFetcher(self._changed)
        self._replicas = Replicas(id, redis, self._fetcher)
        self.engines = RemoteEngines(
            id,
            redis,
            publisher,
            self._finisher,
            lease_seconds=lease_seconds,
            wake=self._changed,
            ended=lambda running, outcome: self._spawn(self._conclude(running, outcome)),
            spawn=self._spawn,
        )
        self._token_counts = TokenCountService(id, redis, self._counter)
        self._titler = titling.Titler(self.placement, self.engines)

    # Lifecycle.

    async def run(self) -> None:
        """Serve until cancelled, then give back the running jobs and end the children."""
        heartbeats = asyncio.create_task(self._write_heartbeats())
        try:
            await self._recover()
            await self._preload()
            # A task that fails ends the process, and the supervisor restarts it: the host must not
            # run without, for example, its heartbeat.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publisher.run(), name="publish")
                steps = (
                    self._listen,
                    self._beat,
                    self._reclaim,
                    self._announce_status,
                    self._serve,
                )
                engines = (self.engines.renew, self.engines.tend)
                for step in (*steps, *engines, self._token_counts.serve, self._titler.serve):
                    group.create_task(repeat(step), name=step.__name__)
        finally:
            self._draining = True
            await self._shut_down()
            heartbeats.cancel()

    async def drain(self, seconds: float) -> None:
        """Take no more jobs; return when none runs here, after ``seconds`` at most."""
        log.info("Draining", extra={"running": len(self._running()), "seconds": seconds})
        self._draining = True
        self._announce.set()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (self._running() or self._tasks):
            await asyncio.sleep(_DRAIN_POLL_SECONDS)

    def _running(self) -> list[RunningRequest]:
        return [*self.placement.running(), *self.engines.running()]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("Task of the host failed", exc_info=error)

    def _changed(self) -> None:
        self._wake.set()
        self._announce.set()

    async def _write_heartbeats(self) -> None:
        """Write the heartbeat. The supervisor kills a host whose event loop is blocked."""
        while True:
            heartbeat.beat(settings.DATA_DIR, heartbeat.INFERENCE)
            await asyncio.sleep(heartbeat.SECONDS)

    async def _recover(self) -> None:
        """Reclaim the jobs of an earlier process of this host without waiting for their leases."""
        while True:
            try:
                await self._finisher.handle_given_back(await self._queue.reclaim_host(self.id))
                return
            except RedisError as error:
                log.warning("Redis is not responding; retrying", extra={"error": error})
                await asyncio.sleep(0.5)

    async def _preload(self) -> None:
        """Start to load the models that are wanted before the first request."""
        try:
            names = await self._first_models()
        except DatabaseError as error:
            log.warning("No model can be preloaded", extra={"error": error})
            return
        for name in names:
            try:
                await self.placement.runner_for(name)
            except ModelFileMissing as missing:
                await self._fetch_soon(missing)
            except (ChatsiteError, DatabaseError) as error:
                log.warning("Model can't be preloaded", extra={"model": name, "error": error})

    async def _fetch_soon(self, missing: ModelFileMissing) -> None:
        """Fetch the file of a model that is to be loaded without a request; load it then."""
        try:
            await self._replicas.fetch(missing, now=True)
        except RedisError as error:
            log.warning("Hosts with a file can't be found", extra={"error": error})
        self._to_load.setdefault(missing.model, None)

    async def _shut_down(self) -> None:
        await self._fetcher.stop()
        left = [*await self.placement.stop_all(), *await self.engines.stop_all()]
        try:
            await self._publisher.flush()
            await self._finisher.give_back(left, fault=False)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            await self.engines.release()
            await status.withdraw(self._redis, self.id)
        except RedisError as error:
            log.warning(
                "Redis is not responding at shutdown; leases will expire", extra={"error": error}
            )

    # Serving.

    async def _serve(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake.wait()
        self._wake.clear()
        if self._draining:
            return
        for digest in tuple(self._to_unload):
            self._to_unload.discard(digest)
            if await self.placement.unload(digest):
                self._announce.set()
        names = {*await self._queue.models(), *self._to_load}
        if PROBE_MODEL in names:
            names.discard(PROBE_MODEL)
            await self._finisher.answer_probes()
        if names:
            await self.placement.interrupt_tuning()
        self.placement.set_waiting_models(names)
        self._replicas.set_waiting_models(names)
        if time.monotonic() - self._tended_at >= _POLL_SECONDS:
            self._tended_at = time.monotonic()
            await self.placement.housekeep()
        await self.placement.tend_batches()
        for name in names:
            if self.engines.serves(name):
                self._to_load.pop(name, None)
                await self.engines.fill(name, self._begin, lambda: self._draining)
                continue
            runner = await self._runner_for(name)
            if runner is not None:
                if (seconds := self._to_load.pop(name, None)) is not None:
                    runner.keep_alive = seconds
                await self._fill(name, runner)

    async def _runner_for(self, name: str) -> ModelRunner | None:
        """Return the runner of a model; None while it must wait or is left to another host."""
        wanted = name in self._to_load
        left = not wanted and not self.placement.holds(name)
        if left and await self._replicas.served_elsewhere(name):
            return None
        try:
            return await self.placement.runner_for(name)
        except RemoteModelRequested:
            self._to_load.pop(name, None)
            self.engines.reload()
        except ModelFileMissing as missing:
            if refusal := await self._replicas.fetch(missing, now=wanted):
                self._to_load.pop(name, None)
                await self._finisher.refuse_all(name, refusal)
        except ChatsiteError as error:
            self._to_load.pop(name, None)
            self._announce.set()
            if not await fits_elsewhere(self._redis, self.id, name, error):
                await self._finisher.refuse_all(name, error)
        return None

    async def _fill(self, name: str, runner: ModelRunner) -> None:
        while runner.free_slots > 0 and not self._draining:
            lease = await self._finisher.lease(name)
            if lease is None:
                runner.suspect_waits = False
                return
            runner.suspect_waits = lease.last_chance and not runner.idle
            if runner.suspect_waits:
                await self._finisher.return_leased([(lease.job.id, lease.attempt)])
                return
            await self._begin(runner, lease)

    async def _begin(self, runner: Target, lease: Lease) -> None:
        with logs.bind(request=lease.job.request_id, generation=lease.job.id):
            await self._begin_bound(runner, lease)

    async def _begin_bound(self, runner: Target, lease: Lease) -> None:
        id = lease.job.id
        try:
            writer = await self._publisher.open(id, lease.attempt, runner.syntax)
        except StaleWriter:
            # Either a later attempt has it, or an attempt to end it failed: then this host still
            # holds the lease, and the next lease has a higher attempt.
            log.warning("Attempt is fenced off", extra={"generation": id, "attempt": lease.attempt})
            await self._finisher.return_leased([(lease.job.id, lease.attempt)])
            return
        if lease.job.temporary:
            writer.ended_ttl_seconds = settings.ENV.temporary_seconds
        if lease.job.resume_text and not writer.text:
            # A stream holds the whole answer, for readers with any cursor.
            self._publisher.append(writer, lease.job.resume_text, tokens=0)
        beginning = asyncio.create_task(
            outcomes.save_start(
                id,
                attempt=lease.attempt,
                version=runner.digest,
                syntax=runner.syntax,
                engine=runner.engine_name,
            )
        )
        running = RunningRequest(lease, writer, beginning, runner.syntax)
        # A first attempt can't have ended, so it starts while its row is being written. A later one
        # may start after the end was saved and before it was published.
        if lease.attempt > 1 and not await self._saved(beginning, lease):
            await outcomes.conclude(
                self._queue, self._publisher, writer, Outcome(GenerationState.INTERRUPTED)
            )
            return
        if lease.job.priority != BATCH:
            await self.placement.tend_batches(arriving=True)
        await runner.submit(running)

    async def _saved(self, beginning: asyncio.Task[bool], lease: Lease) -> bool:
        """Return the result of `save_start`. Without SQL, give the job back, not as a fault."""
        try:
            return await beginning
        except DatabaseError:
            await self._finisher.return_leased([(lease.job.id, lease.attempt)])
            raise

    # Ends.

    async def _conclude(self, running: RunningRequest, outcome: Outcome) -> None:
        job = running.lease.job
        with logs.bind(request=job.request_id, generation=job.id):
            if not await self._finisher.conclude(running, outcome):
                return
            _log_end(running, outcome)
            answer_spans.record(running, outcome)
            self._titler.answered(running, outcome)

    def _demoted(self, spec: ModelSpec, reason: str) -> None:
        self.placement.demote(spec.digest, reason)
        self._to_load.setdefault(spec.name, None)
        self._wake.set()

    async def _broken(self, spec: ModelSpec, reason: str) -> None:
        log.error("Model quarantined", extra={"model": spec.name, "error": reason})
        while True:
            try:
                await self._quarantine(spec.digest, reason)
                self.placement.forget(spec.digest)
                await self._finisher.refuse_all(spec.name, ModelUnavailable())
                return
            except (RedisError, OperationalError, InterfaceError) as error:
                log.error(
                    "Quarantine can't be saved; retrying",
                    extra={"model": spec.name, "error": error},
                )
                await sync_to_async(renew_failed_connection)()
                await asyncio.sleep(1)

    # Messages from and to other processes.

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
                    await self._cancel(id)
                elif verb == "engine":
                    self.engines.reload(int(id) if id.isdecimal() else None)
                elif verb == "load":
                    name, _, seconds = id.partition(" ")
                    self._to_load[name] = float(seconds) if seconds else None
                    self._wake.set()
                elif verb == "drop_cache":
                    await self.placement.drop_cache(id)
                elif verb == "tune":
                    self.placement.tune_soon(id)
                elif verb == "unload":
                    self._to_unload.add(id)
                    self._wake.set()
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _cancel(self, id: str) -> None:
        await self.placement.cancel(id)
        self.engines.cancel(id)

    def _counter(self, digest: str) -> ModelRunner | Counter | None:
        """Return what counts the tokens of a model here."""
        return self.placement.loaded(digest) or self.engines.loaded(digest)

    async def _beat(self) -> None:
        await asyncio.sleep(self._heartbeat_seconds)
        held = [
            (running.lease.job.id, running.lease.attempt)
            for running in (*self._running(), *self._finisher.finishing())
        ]
        for (id, _), answer in zip(held, await self._queue.heartbeat(self.id, held), strict=True):
            if answer == "cancel":
                await self._cancel(id)
            elif answer == "lost":
                log.warning("Generation was leased to another host", extra={"generation": id})
                await self.placement.drop(id)
                self.engines.drop(id)

    async def _reclaim(self) -> None:
        """Requeue the jobs of hosts that died or pause."""
        await asyncio.sleep(min(_RECLAIM_SECONDS, self._heartbeat_seconds))
        await self._finisher.handle_given_back(await self._queue.reclaim_expired())

    async def _announce_status(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(status.ANNOUNCE_SECONDS):
                await self._announce.wait()
            await asyncio.sleep(0.1)
        self._announce.clear()
        room = machine.disk(settings.DATA_DIR)
        await status.announce(
            self._redis,
            status.HostStatus(
                id=self.id,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                models=(
                    *self.placement.statuses(),
                    *self.engines.statuses(),
                    *self._fetcher.statuses(),
                ),
                memory=self._budget.status(self.placement.committed),
                devices=self._budget.device_status(self.placement.on_devices),
                cpu=status.HostCpu(*machine.cpu()),
                disk=status.HostDisk(*room) if room else None,
                draining=self._draining,
                files=await asyncio.to_thread(held),
                files_url=self._files_url,
                engines=self.engines.engine_statuses(),
            ),
        )


async def repeat(step: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``step`` until this task is cancelled, even if the step swallows the cancellation.

    `asyncio.wait_for` of Python 3.11, which libraries use, does so where its result arrives in
    the same iteration of the event loop. A single such loop would keep the host from ending.
    """
    own = asyncio.current_task()
    while own is None or not own.cancelling():
        try:
            await step()
        except (RedisError, DatabaseError) as error:
            log.warning("Redis or the database is not responding; retrying", extra={"error": error})
            # A connection that a restarted server has closed must not be reused.
            await sync_to_async(renew_failed_connection)()
            await asyncio.sleep(0.5)


def _log_end(running: RunningRequest, outcome: Outcome) -> None:
    """Log how an answer ended; failures always, others for debugging."""
    log.log(
        logging.WARNING if outcome.state == GenerationState.FAILED else logging.DEBUG,
        "Generation ended",
        extra={
            "attempt": running.lease.attempt,
            "model": running.lease.job.model,
            "state": outcome.state.value,
            "reason": (outcome.error or {}).get("code") or outcome.finish_reason,
            "completion_tokens": running.writer.tokens,
            "ttft_ms": None if outcome.ttft_ms is None else round(outcome.ttft_ms),
        },
    )
