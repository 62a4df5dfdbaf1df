"""Requests for token counts, from a web process to an engine child and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.queue import Lease
from chatsite.answers.queue.request import QueuedRequest
from chatsite.engine.contract import messages as m
from chatsite.engine.contract.frames import MAX_FRAME
from chatsite.hosts import token_counts
from chatsite.hosts.status import HostStatus, ModelStatus
from chatsite.hosts.token_counts import ask
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.placement import Placement
from chatsite.inference.runner import ModelRunner
from chatsite.inference.runner_callbacks import RunnerCallbacks
from chatsite.inference.running_request import RunningRequest
from chatsite.inference.token_count_service import TokenCountService
from chatsite.stream.publish import Publisher

DIGEST = "a" * 64
HOSTS = [HostStatus("h", "h", 1, (ModelStatus("tiny", DIGEST, "ready", context=512),))]


@pytest.fixture
def ends() -> list[Outcome]:
    return []


@pytest.fixture
async def runner(redis: Redis, tmp_path: Path, ends: list[Outcome]) -> AsyncIterator[ModelRunner]:
    changed = asyncio.Event()
    effects = RunnerCallbacks(
        lambda _, outcome: ends.append(outcome),
        lambda _: None,
        lambda *_: None,
        lambda *_: None,
        changed.set,
        Publisher(redis, ended_ttl_seconds=60),
    )
    spec = ModelSpec(
        "tiny", DIGEST, tmp_path / "no", 512, 2, 1, 200.0, 0, "scripted", tmp_path / "tuning"
    )
    placement = Placement(lambda _: asyncio.sleep(0, spec), effects, 1)
    found = await placement.runner_for("tiny")
    assert found
    desk = asyncio.create_task(TokenCountService("h", redis, placement.loaded).serve())
    while found.state != "ready":
        changed.clear()
        await changed.wait()
    yield found
    desk.cancel()
    await asyncio.gather(desk, return_exceptions=True)
    await placement.stop_all()


def question(id: str) -> m.CountTokens:
    return m.CountTokens(id, texts=("one two three", "four"))


async def test_the_child_that_is_loaded_counts(redis: Redis, runner: ModelRunner) -> None:
    answers = await asyncio.gather(*(ask(redis, HOSTS, DIGEST, question(str(n))) for n in range(8)))
    assert {answer and answer.texts for answer in answers} == {(3, 1)}
    assert await redis.keys("cs:measured:*") == []


async def test_a_refusal_of_the_child_is_no_answer(redis: Redis, runner: ModelRunner) -> None:
    bad = m.CountTokens("b", (m.ChatMessage("user", "x"),), m.PromptOptions(template="{% for %}"))
    assert await ask(redis, HOSTS, DIGEST, bad) is None


async def test_more_than_a_pipe_carries_ends_the_request_and_nothing_else(
    redis: Redis, runner: ModelRunner, ends: list[Outcome]
) -> None:
    huge = "x" * (MAX_FRAME + 1)
    assert await ask(redis, HOSTS, DIGEST, m.CountTokens("h", texts=(huge,))) is None
    job = QueuedRequest("g", "ann", "tiny", (m.ChatMessage("user", huge),), 0.0)
    writer = await Publisher(redis, ended_ttl_seconds=60).open("g", 1)
    saved = asyncio.create_task(asyncio.sleep(0, True))
    await runner.submit(RunningRequest(Lease(job, 1, last_chance=False), writer, saved))
    (end,) = ends
    assert end.error
    assert end.error["code"] == "context_length_exceeded"
    assert runner.idle
    assert await ask(redis, HOSTS, DIGEST, question("after")) is not None


async def test_lost_requests_are_not_waited_for(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await ask(redis, [], DIGEST, question("1")) is None
    assert await ask(redis, HOSTS, DIGEST, question("2")) is None  # no subscriber
    huge = m.CountTokens("huge", texts=("x" * (5 << 20),))  # Redis would disconnect the subscriber
    assert await ask(redis, HOSTS, DIGEST, huge) is None
    monkeypatch.setattr(token_counts, "ANSWER_SECONDS", 0.05)
    pubsub = redis.pubsub()
    await pubsub.subscribe("cs:measure:h")
    assert await ask(redis, HOSTS, DIGEST, question("3")) is None
    await pubsub.aclose()
