"""Context usage when the model is not loaded and can't count tokens."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.chat import context
from chatsite.chat.protocol import CountTokens, TokenCounts
from chatsite.conversations.assistants.models import Assistant
from chatsite.conversations.models import GenerationState
from chatsite.engine.contract.messages import ChatMessage
from chatsite.errors import NotFound
from models_admin.models import ModelVersion
from tests.integration.chat.test_attachments import attached
from tests.integration.chat.test_turns import answer, send


@pytest.fixture(autouse=True)
async def _connections() -> AsyncIterator[None]:
    """Close the connections of the thread that asynchronous tests use for the database."""
    yield
    await sync_to_async(connections.close_all)()


async def measured(user: User, command: CountTokens) -> TokenCounts:
    try:
        return await context.count_branch(runtime(), user, command)
    finally:
        await close_runtime()


async def test_an_estimate_is_marked_as_one(alice: User, model: str, redis: Redis) -> None:
    found = await measured(alice, CountTokens("m", model, "x" * 350))
    assert (found.message, found.estimated, found.system) == (100, True, None)


async def test_it_learns_from_the_models_earlier_token_counts(
    alice: User, model: str, redis: Redis
) -> None:
    digest = await sync_to_async(lambda: ModelVersion.objects.get().digest)()
    said = (ChatMessage("user", "x" * 4000),)
    for _ in range(20):
        await context.learn(redis, digest, said, 2000, 777)
    found = await measured(alice, CountTokens("m", model, "x" * 350))
    assert (found.message, found.context) == (175, 777)


async def test_the_parts_of_the_context_are_counted_separately(
    alice: User, bob: User, model: str, redis: Redis
) -> None:
    def prepare() -> tuple[str, str, str, str]:
        turn = send(alice, "q" * 700, model)
        answer(turn, "a" * 700, GenerationState.DONE)
        document = attached(alice, "d" * 7000)
        assistant = Assistant.objects.create(owner=alice, name="A", model=model, system="s" * 1400)
        return (
            str(turn.conversation.pk),
            str(turn.answer.pk),
            str(document.pk),
            str(assistant.pk),
        )

    conversation, parent, document, assistant = await sync_to_async(prepare)()
    command = CountTokens(
        str(uuid.uuid4()),
        model,
        "m" * 70,
        True,
        conversation,
        parent,
        attachments=(document,),
        assistant=assistant,
    )
    found = await measured(alice, command)
    assert (found.message, found.system, found.history) == (20, 405, 410)
    assert found.attachments is not None
    assert list(found.attachments) == [document]
    assert found.attachments[document] > 2000
    with pytest.raises(NotFound):
        await measured(bob, CountTokens("m", model, "", True, conversation, parent))
