"""Temporary chats: queued like any answer, stored nowhere, followed until their stream expires."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.answers.outcome import Outcome, conclude_unheld
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.bench.users import cookie_of
from chatsite.chat import submit, temporary
from chatsite.chat.consumer import ChatConsumer
from chatsite.chat.protocol import Send, SendTemporary, TemporaryMessage
from chatsite.conversations.models import (
    Conversation,
    Generation,
    GenerationState,
    Message,
    Via,
)
from chatsite.engine.contract.messages import OutputSyntax
from chatsite.errors import EmptyMessage, QueueFull
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from chatsite.redis_keys import stream_key
from chatsite.search.models import Entry
from chatsite.site_settings import cache
from tests.integration.chat.conftest import MODEL

THINKS = OutputSyntax("<think>", "</think>")


@pytest.fixture(autouse=True)
async def _runtime(redis: Redis) -> AsyncIterator[None]:
    yield
    await close_runtime()


def command(id: str = "r1", *texts: str, **more: Any) -> SendTemporary:
    messages = tuple(
        TemporaryMessage("assistant" if place % 2 else "user", text)
        for place, text in enumerate(texts or ("Hello",))
    )
    return SendTemporary(id, messages, MODEL, **more)


async def test_an_answer_is_queued_and_nothing_is_stored(alice: User, model: str) -> None:
    asked = command("r1", "One", "Two", "Three", resume_text="Thr")
    generation, _sources = await temporary.submit(runtime(), alice, asked)
    assert (generation.via, generation.message_id) == (Via.TEMPORARY, None)
    lease = await runtime().queue.lease(MODEL, "host")
    assert lease is not None
    job = lease.job
    assert job.temporary
    assert job.resume_text == "Thr"
    assert job.title_for == ""
    assert [one.content for one in job.messages][-3:] == [
        "One",
        "Two",
        "Three",
    ]
    assert await Conversation.objects.acount() == await Message.objects.acount() == 0
    assert await Entry.objects.acount() == 0
    again, _sources = await temporary.submit(runtime(), alice, asked)
    assert again.pk == generation.pk
    assert await Generation.objects.acount() == 1


def test_reasoning_of_earlier_answers_is_left_out() -> None:
    messages = (
        TemporaryMessage("user", "One"),
        TemporaryMessage("assistant", "<think>hidden</think>Two", THINKS),
        TemporaryMessage("user", "Three"),
    )
    assert [one.content for one in temporary.build(messages)] == ["One", "Two", "Three"]


async def test_a_refused_command_leaves_nothing(
    alice: User, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EmptyMessage):
        await temporary.submit(runtime(), alice, command("r", " "))

    async def full(*_args: object) -> int:
        raise QueueFull

    monkeypatch.setattr(temporary, "enqueue", full)
    with pytest.raises(QueueFull):
        await temporary.submit(runtime(), alice, command())
    assert await Generation.objects.acount() == 0


async def test_rules_and_settings_allow_force_and_forbid(
    alice: User, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_user: object, feature: Feature) -> bool:
        return feature != Feature.TEMPORARY_CHATS

    with monkeypatch.context() as patch:
        patch.setattr(decisions, "allows", denied)
        with pytest.raises(temporary.TemporaryChatsForbidden):
            await temporary.submit(runtime(), alice, command())
    cache.cache.put({"temporary_chats": "forbidden"})
    with pytest.raises(temporary.TemporaryChatsForbidden):
        await temporary.submit(runtime(), alice, command())
    cache.cache.put({"temporary_chats": "forced"})
    with pytest.raises(temporary.ChatsNotSaved):
        await submit.submit(runtime(), alice, Send("r2", "Hello", MODEL))
    assert await Conversation.objects.acount() == 0
    assert (await temporary.submit(runtime(), alice, command("r3")))[0].owner_id == alice.pk


async def test_the_text_comes_from_the_stream_until_it_expires(
    alice: User, bob: User, model: str, redis: Redis
) -> None:
    generation, _sources = await temporary.submit(runtime(), alice, command())
    id = str(generation.pk)
    queue, publisher = runtime().queue, runtime().publisher
    lease = await queue.lease(MODEL, "host")
    assert lease is not None
    writer = await publisher.open(id, lease.attempt)
    publisher.append(writer, "A secret", 2)
    await publisher.flush()
    outcome = Outcome(GenerationState.DONE, finish_reason="stop")
    await conclude_unheld(queue, publisher, id, attempt=lease.attempt, outcome=outcome)
    left = await redis.ttl(stream_key(id))
    assert 0 < left <= settings.ENV.temporary_seconds
    ended = await told(alice, id)
    assert ended["type"] == "ended"
    assert ended["message"]["content"] == "A secret"
    assert ended["message"]["conversation"] == ""
    assert ended["message"]["generation"]["state"] == "done"
    assert (await told(bob, id))["error"]["code"] == "not_found"
    await redis.delete(stream_key(id))
    assert (await told(alice, id))["error"]["code"] == "temporary_answer_gone"


async def told(user: User, generation: str) -> dict[str, Any]:
    """Return the last event of a subscription to a generation."""
    key = (await sync_to_async(cookie_of)(user)).partition("=")[2]
    socket = WebsocketCommunicator(ChatConsumer.as_asgi(), "/ws/chat/")
    socket.scope["session"] = SessionStore(session_key=key)
    socket.scope["cookies"] = {}
    assert (await socket.connect())[0]
    await socket.send_to(json.dumps({"type": "subscribe", "generation": generation}))
    while True:
        event: dict[str, Any] = json.loads(await socket.receive_from(5))
        if event["type"] in {"ended", "error"}:
            await socket.disconnect()
            return event
