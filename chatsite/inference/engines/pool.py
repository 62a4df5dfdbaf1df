"""The remote engines that this host serves, and the requests for their models.

A dead engine blocks nothing: all that waits for an engine runs in tasks of its own, and the serving
loop only looks at states.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from socket import gethostname
from typing import Final

import httpx
from asgiref.sync import sync_to_async
from django.db import DatabaseError, close_old_connections
from django.utils.translation import gettext_lazy as _
from redis.asyncio import Redis

from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.queue import Lease
from chatsite.audit.record import record
from chatsite.engine.contract import messages as m
from chatsite.errors import ModelUnavailable
from chatsite.hosts import status
from chatsite.hosts.status import EngineStatus, ModelState, ModelStatus
from chatsite.inference.background import BackgroundGeneration
from chatsite.inference.engines import known, routing
from chatsite.inference.engines.engine import Callbacks, ModelFigures, RemoteEngine
from chatsite.inference.engines.known import EngineFacts, Known
from chatsite.inference.engines.leases import Leases
from chatsite.inference.remote.canonical import SYNTAX
from chatsite.inference.remote.connect import connect
from chatsite.inference.remote.contract import Client, Discovery
from chatsite.inference.request_finisher import RequestFinisher
from chatsite.inference.running_request import RunningRequest
from chatsite.stream.publish import Publisher
from models_admin import catalogue
from models_admin.engines import work
from models_admin.sources import egress

log = logging.getLogger(__name__)

_RELOAD_SECONDS: Final = 3.0
TEND_SECONDS: Final = 0.5
# Pause between attempts to take an engine that no host serves.
_FREE_SECONDS: Final = 0.5
_RENEWALS_PER_LEASE: Final = 5
# Queued requests wait this long for an engine that went down, then they are refused.
PATIENCE_SECONDS: Final = 60.0


class EnginesDown(ModelUnavailable):
    code = "engine_unreachable"
    message = _(
        "The server of this model is not responding. Try again later or choose another one."
    )


@dataclass(frozen=True)
class Seat:
    """A place at an engine for one request to the model ``digest``."""

    engine: RemoteEngine
    digest: str

    @property
    def syntax(self) -> m.OutputSyntax:
        return SYNTAX

    @property
    def engine_name(self) -> str | None:
        return self.engine.facts.name

    @property
    def parameters(self) -> int | None:
        """None: engines don't say how large their models are."""
        return None

    @property
    def idle(self) -> bool:
        return self.engine.idle

    async def submit(self, running: RunningRequest) -> None:
        self.engine.submit(running, self.digest)

    async def generate_in_background(
        self, request: m.Generate, seconds: float
    ) -> BackgroundGeneration | None:
        return await self.engine.generate_in_background(self.digest, request, seconds)


class RemoteEngines:
    """All remote engines, as far as this host serves them.

    ``wake`` has the host serve its queue and announce its state; ``ended`` saves an outcome.
    """

    def __init__(
        self,
        host: str,
        redis: Redis,
        publisher: Publisher,
        finisher: RequestFinisher,
        *,
        lease_seconds: float,
        wake: Callable[[], None],
        ended: Callable[[RunningRequest, Outcome], None],
        spawn: Callable[..., None],
        load: Callable[[], Known] = known.load,
        make_client: Callable[[EngineFacts], Client] | None = None,
    ) -> None:
        self._host = host
        self._redis = redis
        self._finisher = finisher
        self._renew_seconds = lease_seconds / _RENEWALS_PER_LEASE
        self._lease_seconds = lease_seconds
        self.leases = Leases(redis, host, int(lease_seconds * 1000))
        self._known = Known()
        self._load = load
        self._make_client = make_client or _client_of
        self._engines: dict[int, RemoteEngine] = {}
        self._figures: dict[str, ModelFigures] = {}
        self._reload = asyncio.Event()
        self._settling = asyncio.Lock()
        self._loaded_at = 0.0
        self._renewed_at = 0.0
        self._callbacks = Callbacks(
            ended=ended,
            lost=lambda lost, fault: spawn(self._finisher.give_back(lost, fault=fault)),
            changed=wake,
            discovered=self._discovered,
            failed=_save_error,
            turned=_turned,
            publisher=publisher,
        )
        self._wake = wake

    # Steps that the host repeats.

    async def renew(self) -> None:
        """Renew the leases of engines, take free ones, and let go of lost ones."""
        owners = self.leases.owners
        free = any(not owners.get(one.id) for one in self._known.engines)
        await asyncio.sleep(min(self._renew_seconds, _FREE_SECONDS if free else math.inf))
        models = {one.id: frozenset(one.models) for one in self._known.engines}
        if not models and not self.leases.owners:
            return
        late = time.monotonic() - self._renewed_at > self._lease_seconds
        if late:
            # This process was stopped for longer than a lease: others may serve the engines.
            self.leases.owners = {}
        began = time.monotonic()
        alive = frozenset(host.id for host in await status.alive(self._redis))
        await self.leases.hold(models, alive, began)
        self._renewed_at = began
        await self._settle()

    async def tend(self) -> None:
        """Read the engines from the database if it is time, and begin the checks that are due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TEND_SECONDS):
                await self._reload.wait()
        asked = self._reload.is_set()
        self._reload.clear()
        now = time.monotonic()
        for engine in self._engines.values():
            engine.tend(now)
        if asked or now - self._loaded_at >= _RELOAD_SECONDS:
            self._loaded_at = now
            await self._take(await sync_to_async(self._load)())

    def reload(self, check: int | None = None) -> None:
        """Read the engines again now; have the engine ``check`` asked for its models."""
        if check in self._engines:
            self._engines[check].check_now()
        self._reload.set()

    async def _take(self, found: Known) -> None:
        before, self._known = self._known, found
        if before != found:
            await self._settle()
            self._wake()

    async def _settle(self) -> None:
        """Start and stop engines so that they are those whose leases are held."""
        async with self._settling:
            await self._start_and_stop()
        self._wake()

    async def _start_and_stop(self) -> None:
        facts = {one.id: one for one in self._known.engines}
        held = self.leases.held
        for id, engine in tuple(self._engines.items()):
            new = facts.get(id)
            if new is not None and id in held and new.server == engine.facts.server:
                engine.facts = new
                continue
            del self._engines[id]
            left = await engine.stop()
            # Attempts that another host has taken over are not given back: it has their leases.
            await self._finisher.give_back(left, fault=False)
        for id in held:
            if id in facts and id not in self._engines:
                own = facts[id]
                self._engines[id] = RemoteEngine(
                    own, self._make_client(own), self._callbacks, self._figures
                )

    async def stop_all(self) -> list[RunningRequest]:
        """End all requests; return the unfinished jobs. The leases are kept until `release`."""
        engines, self._engines = list(self._engines.values()), {}
        return [job for engine in engines for job in await engine.stop()]

    async def release(self) -> None:
        await self.leases.release()

    async def _discovered(self, facts: EngineFacts, found: Discovery) -> None:
        models = [
            work.Found(
                one.name,
                one.context_length,
                one.slots,
                frozenset(ability.value for ability in one.capabilities),
            )
            for one in found.models
        ]
        try:
            added = await sync_to_async(work.save_discovery)(facts.id, found.version, models)
        except DatabaseError as error:
            # The next discovery saves them.
            log.warning(
                "Models of an engine can't be saved", extra={"engine": facts.name, "error": error}
            )
            await sync_to_async(close_old_connections)()
            return
        if added:
            log.info("Models discovered", extra={"engine": facts.name, "models": added})
        self._reload.set()

    # Serving.

    def serves(self, name: str) -> bool:
        """Return whether ``name`` is the name of a remote model."""
        return name in self._known.names

    async def fill(
        self,
        name: str,
        begin: Callable[[Seat, Lease], Awaitable[None]],
        draining: Callable[[], bool],
    ) -> None:
        """Lease queued jobs for the model ``name`` while engines have free slots."""
        digest = self._known.names[name]
        if not any(digest in one.models for one in self._known.engines):
            await self._finisher.refuse_all(name, catalogue.NoEngine())
            return
        while not draining() and self._free(digest):
            lease = await self._finisher.lease(name)
            if lease is None:
                return
            free = self._free(digest)
            if not free:  # an engine went down meanwhile
                held = [(lease.job.id, lease.attempt)]
                await self._finisher.return_leased(held)
                return
            await begin(self._seat(digest, free, lease), lease)
        if self._all_down(digest):
            await self._finisher.refuse_all(name, EnginesDown())

    def _free(self, digest: str) -> list[RemoteEngine]:
        return [engine for engine in self._engines.values() if engine.free_slots(digest) > 0]

    def _seat(self, digest: str, free: list[RemoteEngine], lease: Lease) -> Seat:
        """Choose an engine by its load and by where the beginning of the prompt was computed."""
        offering = [engine for engine in self._engines.values() if digest in engine.facts.models]
        if len(offering) == 1:
            return Seat(free[0], digest)
        job = lease.job
        prompt = routing.prefixes(job.owner, digest, job.messages, job.options)
        by_id = {engine.facts.id: engine for engine in free}
        chosen = by_id[
            routing.choose(
                [
                    routing.Candidate(
                        id,
                        engine.prefixes.matched(prompt),
                        len(engine.running) / engine.facts.concurrency,
                    )
                    for id, engine in by_id.items()
                ]
            )
        ]
        chosen.prefixes.note(prompt)
        return Seat(chosen, digest)

    def _all_down(self, digest: str) -> bool:
        """Return whether all engines with the model are this host's, and long down."""
        offering = [one.id for one in self._known.engines if digest in one.models]
        now = time.monotonic()
        return bool(offering) and all(
            id in self._engines and self._engines[id].health.down_for(now) > PATIENCE_SECONDS
            for id in offering
        )

    # What others ask.

    def running(self) -> list[RunningRequest]:
        return [job for engine in self._engines.values() for job in engine.running]

    def cancel(self, id: str) -> None:
        for engine in self._engines.values():
            engine.cancel(id)

    def drop(self, id: str) -> None:
        for engine in self._engines.values():
            engine.drop(id)

    def free(self, name: str) -> Seat | None:
        """Return a place for background text of the model: the engine has a slot to spare."""
        digest = self._known.names.get(name)
        free = self._free(digest) if digest else []
        if not digest or not free:
            return None
        return Seat(max(free, key=lambda engine: engine.free_slots(digest)), digest)

    def loaded(self, digest: str) -> Counter | None:
        """Return what counts tokens of the model; None if no engine is ready."""
        for engine in self._engines.values():
            if digest in engine.facts.models and engine.health.state == "ready":
                return Counter(engine, digest)
        return None

    def statuses(self) -> tuple[ModelStatus, ...]:
        return tuple(
            found
            for name, digest in self._known.names.items()
            if (found := self._status(name, digest)) is not None
        )

    def engine_statuses(self) -> tuple[EngineStatus, ...]:
        return tuple(engine.status for engine in self._engines.values())

    def _status(self, name: str, digest: str) -> ModelStatus | None:
        own = [engine for engine in self._engines.values() if digest in engine.facts.models]
        if not own:
            return None
        ready = [engine for engine in own if engine.health.state == "ready"]
        slots = sum(engine.facts.slots(digest) for engine in ready)
        figures = self._figures.setdefault(digest, ModelFigures())
        now = time.monotonic()
        busy = sum(engine.busy(digest) for engine in own)
        down = [engine for engine in own if engine.health.state == "down"]
        state: ModelState = "ready" if ready else "unreachable" if down else "loading"
        contexts = [engine.facts.models[digest].context_length or 0 for engine in own]
        return ModelStatus(
            name=name,
            digest=digest,
            state=state,
            slots=slots,
            busy=busy,
            context=min(contexts),
            reason="; ".join(f"{one.facts.name}: {one.health.error}" for one in down),
            stats=m.Stats(decoded=figures.decoded, running=busy),
            typical_seconds=figures.occupancy.typical,
            openings=figures.occupancy.openings(
                [now - began for engine in ready for began in engine.began(digest)], slots
            )
            if slots
            else (),
            latency=figures.latency.histograms(),
            empty_answers=figures.empty_answers,
            remote=True,
        )


@dataclass(frozen=True)
class Counter:
    """Counts tokens of the model ``digest`` at an engine."""

    engine: RemoteEngine
    digest: str

    async def count_tokens(self, measure: m.CountTokens, seconds: float) -> m.TokenCounts | None:
        try:
            async with asyncio.timeout(seconds):
                return await self.engine.count_tokens(self.digest, measure)
        except TimeoutError:
            return None


def _client_of(facts: EngineFacts) -> Client:
    url = httpx.URL(facts.server.url)
    return connect(facts.server, egress=lambda target: egress.engine_addresses(url, target))


async def _save_error(facts: EngineFacts, error: str) -> None:
    try:
        await sync_to_async(work.save_error)(facts.id, error)
    except DatabaseError:
        # The host announces the error too.
        await sync_to_async(close_old_connections)()


def _turned(facts: EngineFacts, error: str) -> None:
    """Record that an engine went down, or came back if ``error`` is empty."""
    target = ("engine", str(facts.id), facts.name)
    if error:
        log.error("Engine does not respond", extra={"engine": facts.name, "error": error})
        record(
            "engine.lost",
            via="system",
            outcome="failed",
            target=target,
            host=gethostname(),
            error=error,
        )
    else:
        log.info("Engine responds again", extra={"engine": facts.name})
        record("engine.recovered", via="system", target=target, host=gethostname())
