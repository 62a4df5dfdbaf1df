"""The chat consumer alone, over a real Redis and database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.answers.outcome import Outcome, save_end, save_start
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.bench.users import cookie_of
from chatsite.chat import turns
from chatsite.chat.consumer import ChatConsumer
from chatsite.chat.protocol import Continue, Send
from chatsite.conversations.models import Conversation, GenerationState
from chatsite.stream.entries import End


class Recording(ChatConsumer):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []

    async def _event(self, event: Any) -> None:
        self.sent.append({"type": type(event).__struct_config__.tag, "event": event})


@pytest.fixture
async def consumer(alice: User, redis_url: str) -> AsyncIterator[Recording]:
    """Yield a consumer connected as alice; its messages are in ``sent``."""
    cookie = await sync_to_async(cookie_of)(alice)
    consumer = Recording()
    key = cookie.partition("=")[2]
    consumer.scope = {"session": SessionStore(session_key=key), "cookies": {}, "headers": []}
    consumer.tasks, consumer.following, consumer.followers = set(), {}, {}
    consumer.session_key, consumer.language, consumer.group = key, "en", ""
    consumer.counting = None
    consumer.notices = contextlib.ExitStack()
    consumer.owner = None
    yield consumer
    await consumer.disconnect(1000)
    await close_runtime()


async def answering(alice: User, model: str) -> turns.Turn:
    turn: turns.Turn = await sync_to_async(turns.make)(alice, Send("r", "hi", model))
    await save_start(str(turn.generation.pk), attempt=1, version="")
    return turn


async def ended(consumer: Recording, generation: str) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(consumer.following[generation], return_exceptions=True)


@pytest.mark.parametrize("change", ["deleted", "continued"])
async def test_b1_an_answer_missing_at_its_end_is_an_error_event(
    consumer: Recording, alice: User, model: str, change: str
) -> None:
    turn = await answering(alice, model)
    id = str(turn.generation.pk)
    writer = await runtime().publisher.open(id, 1)
    runtime().publisher.append(writer, "half", 1)
    await runtime().publisher.flush()
    consumer.follow(id, 0)
    async with asyncio.timeout(60):
        while not any(one["type"] == "delta" for one in consumer.sent):
            await asyncio.sleep(0.01)
    outcome = Outcome(GenerationState.DONE, "length")
    await save_end(id, attempt=1, text="half", tokens=1, outcome=outcome)
    if change == "deleted":
        await Conversation.objects.aupdate(deleted_at=timezone.now())
    else:
        answer = Continue("c", str(turn.answer.pk))
        await sync_to_async(turns.make)(alice, answer)
    await runtime().publisher.end(writer, End("done"))
    await ended(consumer, id)
    last = consumer.sent[-1]
    assert last["type"] == "error"
    assert last["event"].generation == id
    assert last["event"].error["code"] == "not_found"
    assert consumer.following == {}


async def test_b1_a_failure_while_following_is_reported_and_leaves_nothing(
    consumer: Recording, alice: User, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = await answering(alice, model)
    id = str(turn.generation.pk)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(runtime().hub, "follow", fail)
    consumer.follow(id, 0)
    await ended(consumer, id)
    assert consumer.sent[-1]["event"].error["code"] == "error"
    assert consumer.following == {}
