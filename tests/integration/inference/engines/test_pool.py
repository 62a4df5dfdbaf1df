"""Remote engines behind the real queue: answers, failures, several engines, hand-over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.queue import Lease, Queue
from chatsite.answers.queue.request import QueuedRequest
from chatsite.engine.contract import messages as m
from chatsite.inference.engines import pool
from chatsite.inference.engines.known import EngineFacts, Known
from chatsite.inference.engines.pool import RemoteEngines, Seat
from chatsite.inference.remote.contract import Capability, Kind, RemoteModel, Server, Timeouts
from chatsite.inference.request_finisher import RequestFinisher
from chatsite.inference.running_request import RunningRequest
from chatsite.redis_keys import engine_key
from chatsite.stream.publish import Publisher
from models_admin.engines import work
from tests.support.fake_engine import WORDS, FakeEngine, fake_engine

DIGEST = "d" * 64
WHOLE = "".join(WORDS)
CAN = frozenset({Capability.CHAT})


class Site:
    """One host with remote engines, without children and database."""

    def __init__(self, redis: Redis, name: str, lease_seconds: float = 1.0) -> None:
        self.queue = Queue(redis, lease_ms=int(lease_seconds * 1000))
        self.publisher = Publisher(redis, ended_ttl_seconds=60)
        self.finisher = RequestFinisher(name, self.queue, self.publisher)
        self.known = Known()
        self.ended: dict[str, tuple[Outcome, str]] = {}
        self.seats: dict[str, list[int]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.engines = RemoteEngines(
            name,
            redis,
            self.publisher,
            self.finisher,
            lease_seconds=lease_seconds,
            wake=lambda: None,
            ended=self._end,
            spawn=self._spawn,
            load=lambda: self.known,
        )

    def _end(self, running: RunningRequest, outcome: Outcome) -> None:
        id = running.lease.job.id
        self.ended[id] = outcome, running.writer.full_text()
        self._spawn(self.queue.finish(id))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.publisher.run())
            for step in (self.engines.renew, self.engines.tend, self._serve):
                group.create_task(self._repeat(step))

    async def _repeat(self, step: Callable[[], Any]) -> None:
        while True:
            await step()

    async def _serve(self) -> None:
        await asyncio.sleep(0.01)
        for name in await self.queue.models():
            if self.engines.serves(name):
                await self.engines.fill(name, self._begin, lambda: False)

    async def _begin(self, seat: Seat, lease: Lease) -> None:
        id = lease.job.id
        writer = await self.publisher.open(id, lease.attempt, seat.syntax)
        self.seats.setdefault(id, []).append(seat.engine.facts.id)
        saved = asyncio.create_task(asyncio.sleep(0, True))
        await seat.submit(RunningRequest(lease, writer, saved, seat.syntax))

    async def ask(self, id: str, text: str = "Hello", **values: Any) -> None:
        job = QueuedRequest(
            id, "1", "tiny:latest", (m.ChatMessage("user", text),), time.time(), **values
        )
        await self.queue.submit(job, queue_max=100, person_max=100)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def answer(self, id: str, text: str = "Hello", **values: Any) -> tuple[Outcome, str]:
        await self.ask(id, text, **values)
        await self.until(lambda: id in self.ended)
        return self.ended[id]


def facts(id: int, engine: FakeEngine, concurrency: int = 4, can: frozenset[Any] = CAN) -> Any:
    quick = Timeouts(connect=1, reply=1, first=0.5, stall=0.5, total=5)
    server = Server(Kind.OPENAI, engine.url, timeouts=quick)
    models = {DIGEST: RemoteModel("tiny", 4096, can)}
    return EngineFacts(id, f"engine{id}", server, concurrency, models)


@pytest.fixture
async def world(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Start hosts that serve fake engines."""
    for name in ("save_discovery", "save_error"):
        monkeypatch.setattr(work, name, lambda *_: [])
    monkeypatch.setattr(pool, "record", lambda *_, **__: None)
    monkeypatch.setattr("chatsite.inference.engines.health.BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(pool, "TEND_SECONDS", 0.02)
    async with AsyncExitStack() as stack:
        sites: list[tuple[Site, asyncio.Task[None]]] = []

        async def start(*known: Any, name: str = "h1") -> Site:
            site = Site(redis, name)
            site.known = Known(tuple(known), {"tiny:latest": DIGEST})
            sites.append((site, asyncio.create_task(site.run())))
            return site

        start.engine = lambda **values: stack.enter_async_context(  # type: ignore[attr-defined]
            fake_engine(**values)
        )
        yield start
        for site, task in sites:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await site.engines.stop_all()


async def test_an_answer_streams_through_the_queue_with_its_usage(world: Any) -> None:
    engine = await world.engine()
    site = await world(facts(1, engine))
    outcome, text = await site.answer("a")
    assert (outcome.state, outcome.finish_reason, text) == ("done", "stop", WHOLE)
    assert outcome.usage
    assert outcome.usage.prompt_tokens == 7
    assert outcome.ttft_ms is not None
    [status] = site.engines.statuses()
    assert (status.state, status.remote, status.slots) == ("ready", True, 4)


async def test_a_lost_answer_starts_again_with_a_mark_in_a_chat(world: Any) -> None:
    engine = await world.engine(script=["die"])
    site = await world(facts(1, engine))
    outcome, text = await site.answer("a")
    assert outcome.state == "done"
    lost = "".join(WORDS[:4])
    note = "The connection to the model was lost. The answer starts again."
    assert text == f"{lost}\n\n---\n\n*{note}*\n\n{WHOLE}"


async def test_a_lost_answer_of_an_api_request_is_interrupted(world: Any) -> None:
    engine = await world.engine(script=["die"])
    site = await world(facts(1, engine))
    outcome, text = await site.answer("a", priority=m.API)
    assert outcome.state == "interrupted"
    assert text == "".join(WORDS[:4])


@pytest.mark.parametrize("act", ["stall", "lie"])
async def test_an_engine_that_stalls_or_lies_loses_the_answer(world: Any, act: str) -> None:
    engine = await world.engine(script=[act])
    site = await world(facts(1, engine))
    outcome, text = await site.answer("a")
    assert outcome.state == "done"
    assert text.endswith(WHOLE)
    assert text != WHOLE


async def test_a_busy_engine_is_asked_again(world: Any) -> None:
    engine = await world.engine(script=["busy"])
    site = await world(facts(1, engine))
    outcome, text = await site.answer("a")
    assert (outcome.state, text) == ("done", WHOLE)
    assert len(engine.asked) == 2


async def test_a_refusal_reaches_the_user_without_a_retry(world: Any) -> None:
    engine = await world.engine(script=["refuse"])
    site = await world(facts(1, engine))
    outcome, _text = await site.answer("a")
    assert outcome.state == "failed"
    assert outcome.error
    assert outcome.error["code"] == "request_refused"
    assert "told to refuse" in outcome.error["message"]
    assert len(engine.asked) == 1


async def test_what_the_engine_cant_do_is_refused_before_it_is_sent(world: Any) -> None:
    engine = await world.engine()
    site = await world(facts(1, engine))
    outcome, _text = await site.answer("a", options=m.PromptOptions(tools=(m.Tool("f"),)))
    assert outcome.error
    assert outcome.error["code"] == "request_refused"
    assert not engine.asked


async def test_stop_reaches_the_engine(world: Any) -> None:
    engine = await world.engine(hold=asyncio.Event())
    site = await world(facts(1, engine))
    await site.ask("a")
    await site.until(lambda: engine.open == 1)
    site.engines.cancel("a")
    await site.until(lambda: "a" in site.ended and engine.cancelled == 1)
    outcome, text = site.ended["a"]
    assert outcome.state == "cancelled"
    assert WHOLE.startswith(text)


async def test_requests_never_exceed_the_concurrency(world: Any) -> None:
    hold = asyncio.Event()
    engine = await world.engine(hold=hold)
    site = await world(facts(1, engine, concurrency=2))
    for number in range(6):
        await site.ask(f"a{number}")
    await site.until(lambda: engine.open == 2)
    hold.set()
    await site.until(lambda: len(site.ended) == 6)
    assert engine.most_open == 2


async def test_a_dead_engine_keeps_its_jobs_queued_until_it_is_back(world: Any) -> None:
    engine = await world.engine(down=True)
    site = await world(facts(1, engine))
    await site.ask("a")
    await site.until(lambda: [one.state for one in site.engines.statuses()] == ["unreachable"])
    assert not site.ended
    [down] = site.engines.engine_statuses()
    assert down.state == "down"
    assert down.error
    engine.down = False
    await site.until(lambda: "a" in site.ended)
    assert site.ended["a"][1] == WHOLE


async def test_requests_are_refused_when_the_engines_stay_dead(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0.2)
    engine = await world.engine(down=True)
    site = await world(facts(1, engine))
    refused: list[Any] = []

    async def refuse_all(name: str, error: Exception) -> None:
        refused.append((name, error))

    monkeypatch.setattr(site.finisher, "refuse_all", refuse_all)
    await site.ask("a")
    await site.until(lambda: bool(refused))
    assert refused[0][0] == "tiny:latest"
    assert refused[0][1].code == "engine_unreachable"


async def test_an_answer_goes_on_at_another_engine(world: Any) -> None:
    first, second = await world.engine(script=["die"]), await world.engine()
    site = await world(facts(1, first), facts(2, second))
    await site.until(lambda: len(site.engines.engine_statuses()) == 2)
    await site.until(lambda: all(e.state == "ready" for e in site.engines.engine_statuses()))
    outcome, text = await site.answer("a")
    assert outcome.state == "done"
    assert text.endswith(WHOLE)
    assert first.asked


async def test_a_conversation_returns_to_the_engine_that_computed_it(world: Any) -> None:
    engines = [await world.engine(), await world.engine()]
    site = await world(*(facts(id, engine) for id, engine in enumerate(engines, 1)))
    await site.until(
        lambda: [e.state for e in site.engines.engine_statuses()] == ["ready", "ready"]
    )
    hold = asyncio.Event()
    for engine in engines:
        engine.hold = hold
    for number in range(4):  # load is shared
        await site.ask(f"a{number}", f"question {number} " * 20)
    await site.until(lambda: [engine.open for engine in engines] == [2, 2])
    hold.set()
    await site.until(lambda: len(site.ended) == 4)
    for number in range(4):
        await site.answer(f"b{number}", f"question {number} " * 20)
        assert site.seats[f"b{number}"] == site.seats[f"a{number}"]


async def test_another_host_takes_over_when_a_host_dies(world: Any, redis: Redis) -> None:
    engine = await world.engine()
    known = facts(1, engine)
    first = await world(known)
    await first.until(lambda: bool(first.engines.engine_statuses()))
    second = await world(known, name="h2")
    await asyncio.sleep(0.5)
    assert not second.engines.engine_statuses()
    # The first host stops without a word.
    first.engines.leases.hold = _never
    await second.until(lambda: bool(second.engines.engine_statuses()))


async def _never(*_args: Any) -> None:
    await asyncio.sleep(3600)


async def test_a_host_that_lost_its_lease_lets_go(world: Any, redis: Redis) -> None:
    engine = await world.engine()
    site = await world(facts(1, engine))
    await site.until(lambda: bool(site.engines.engine_statuses()))
    await redis.set(engine_key(1), "other host", px=5000)
    await site.until(lambda: not site.engines.engine_statuses())


async def test_a_changed_address_is_used_at_once(world: Any) -> None:
    old, new = await world.engine(), await world.engine()
    site = await world(facts(1, old))
    await site.answer("a")
    site.known = replace(site.known, engines=(facts(1, new),))
    site.engines.reload()
    await site.until(lambda: [e.state for e in site.engines.engine_statuses()] == ["ready"])
    # The engine is replaced at the next step; until then the old one may still answer.
    number = 0
    while not new.asked:
        number += 1
        await site.answer(f"b{number}")
