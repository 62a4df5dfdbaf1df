"""Titles by the model that has answered: a real child that computes nothing, and real SQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.queue import Lease
from chatsite.answers.queue.request import QueuedRequest
from chatsite.chat import turns
from chatsite.chat.protocol import Send
from chatsite.conversations.models import Conversation, Generation, GenerationState, Via
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.placement import Placement
from chatsite.inference.runner import ModelRunner
from chatsite.inference.runner_callbacks import RunnerCallbacks
from chatsite.inference.running_request import RunningRequest
from chatsite.inference.titling import Titler
from chatsite.search import find
from chatsite.stream.publish import Publisher
from models_admin.models import ModelName, ModelVersion

ASKED = "Please explain how the names of computers are found. @next @say"
DONE = Outcome(GenerationState.DONE, finish_reason="stop")


def _nothing(*_: object) -> None:
    pass


class Site:
    """A model with two slots, and a user who has asked it something."""

    def __init__(self, publisher: Publisher, folder: Path, alice: User) -> None:
        self.publisher, self.alice = publisher, alice
        self.changed = asyncio.Event()
        effects = RunnerCallbacks(
            _nothing, _nothing, _nothing, _nothing, self.changed.set, publisher
        )
        spec = ModelSpec(
            *(
                "tiny:latest",
                "a" * 64,
                folder / "no",
                4096,
                2,
                1,
                200.0,
                0,
                "scripted",
                folder / "tuning",
            )
        )
        self.placement = Placement(lambda _: asyncio.sleep(0, spec), effects, 1)
        self.titler = Titler(self.placement)

    async def load(self) -> ModelRunner:
        runner = await self.placement.runner_for("tiny:latest")
        assert runner
        while runner.state != "ready":
            self.changed.clear()
            await self.changed.wait()
        return runner

    async def running(self, job: QueuedRequest, said: str = "") -> RunningRequest:
        writer = await self.publisher.open(job.id, 1)
        if said:
            self.publisher.append(writer, said, tokens=1)
        saved = asyncio.create_task(asyncio.sleep(0, True))
        return RunningRequest(Lease(job, 1, last_chance=False), writer, saved)

    async def titled(self, content: str, outcome: Outcome = DONE) -> Conversation:
        """Return a conversation that begins with ``content`` after it was answered."""
        job = await sync_to_async(self.ask_now)(content)
        self.titler.answered(await self.running(job, "They ask a server."), outcome)
        await self.titler.step()
        return await Conversation.objects.alatest("created_at")

    def ask_now(self, content: str) -> QueuedRequest:
        return turns.queued_request(
            turns.make(self.alice, Send(str(uuid.uuid4()), content, "tiny:latest"))
        )


@pytest.fixture
async def site(redis: Redis, tmp_path: Path, transactional_db: None) -> AsyncIterator[Site]:
    alice = await sync_to_async(User.objects.create_user)("alice", password="x")
    version = await ModelVersion.objects.acreate(digest="a" * 64, size=1)
    await ModelName.objects.acreate(name="tiny:latest", version=version)
    site = Site(Publisher(redis, ended_ttl_seconds=60), tmp_path, alice)
    yield site
    await site.placement.stop_all()
    await sync_to_async(connections.close_all)()  # PostgreSQL drops no database in use


async def test_the_model_names_the_conversation(site: Site) -> None:
    await site.load()
    found = await site.titled(f'{ASKED} "How Names Are Resolved"')
    assert (found.title, found.untitled) == ("How Names Are Resolved", False)
    made = await Generation.objects.aget(via=Via.TITLE)
    assert (made.state, made.owner_id, made.message_id) == ("done", site.alice.pk, None)
    assert made.prompt_tokens
    assert made.completion_tokens
    search = await sync_to_async(find.search)(site.alice, "resolved")
    assert len(search["results"]) == 1


@pytest.mark.parametrize("said", ["", "Sure! Here is one", "x" * 90])
async def test_nonsense_leaves_the_first_line(site: Site, said: str) -> None:
    await site.load()
    found = await site.titled(f"{ASKED} {said}")
    assert found.title.startswith("How the names of computers")
    assert not found.untitled, "it is not tried again"
    assert await Generation.objects.filter(via=Via.TITLE).acount() == 1, "but counted"


async def test_a_title_by_hand_stays(site: Site) -> None:
    await site.load()
    job = await sync_to_async(site.ask_now)(f"{ASKED} How Names Are Resolved")
    await Conversation.objects.aupdate(title="Mine", untitled=False)
    site.titler.answered(await site.running(job, "They ask a server."), DONE)
    await site.titler.step()
    assert (await Conversation.objects.aget()).title == "Mine"
    assert not await Generation.objects.filter(via=Via.TITLE).aexists()


async def test_nothing_is_loaded_for_a_title(site: Site) -> None:
    found = await site.titled(f"{ASKED} How Names Are Resolved")
    assert found.untitled
    assert site.placement.statuses() == ()


async def test_small_models_are_not_asked(site: Site) -> None:
    runner = await site.load()
    assert runner.loaded
    runner.loaded = msgspec.structs.replace(runner.loaded, parameters=135_000_000)
    assert (await site.titled(f"{ASKED} How Names Are Resolved")).untitled


async def test_answers_that_failed_and_short_questions_get_none(site: Site) -> None:
    await site.load()
    failed = await site.titled(f"{ASKED} How Names Are Resolved", Outcome(GenerationState.FAILED))
    assert failed.untitled, "the next answer may do better"
    short = await site.titled("Hello @next @say A Greeting")
    assert short.title == "@next @say A Greeting"


async def test_it_is_an_administrators_choice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.load()
    env = settings.ENV.model_copy(update={"titles": False})
    monkeypatch.setattr(settings, "ENV", env)
    assert (await site.titled(f"{ASKED} How Names Are Resolved")).untitled


async def test_it_gives_way_when_its_slot_is_needed(site: Site) -> None:
    runner = await site.load()
    slow = f"{ASKED.removesuffix('@say')}@delay-ms 30 @tokens 300"
    job = await sync_to_async(site.ask_now)(slow)
    site.titler.answered(await site.running(job, "They ask a server."), DONE)
    making = asyncio.create_task(site.titler.step())
    while not runner.asides.open:
        await asyncio.sleep(0.01)
    others = [await sync_to_async(site.ask_now)(f"@delay-ms 30 @tokens {n}") for n in (300, 301)]
    for other in others:
        assert runner.free_slots > 0, "a title takes nobody's slot"
        await runner.submit(await site.running(other))
    await making
    assert not await Generation.objects.filter(via=Via.TITLE).aexists()
    await site.titler.step()
    assert not runner.asides.open, "and waits for a free one"
    for other in others:
        await runner.cancel(other.id)
