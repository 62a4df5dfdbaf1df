"""Helpers of the chat socket's tests for answers and database rows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatsite.bench.chat_client import Answer, ChatClient, Refused
from chatsite.chat import protocol as p
from chatsite.conversations import schema
from tests.support.stack import Stack


async def ended(answer: Answer, seconds: float = 60) -> schema.Generation:
    async with asyncio.timeout(seconds):
        await answer.ended.wait()
    return answer.generated


def error_of(generation: schema.Generation) -> dict[str, Any]:
    assert generation.error is not None
    return generation.error


def tokens_of(generation: schema.Generation) -> int:
    """Return the number of tokens of the answer."""
    assert generation.usage.completion_tokens is not None
    return generation.usage.completion_tokens


async def measured(client: ChatClient, command: dict[str, Any]) -> p.TokenCounts:
    event = await client.request(command)
    assert isinstance(event, p.TokenCounts)
    return event


def counts(stack: Stack) -> tuple[int, ...]:
    return tuple(
        int(str(stack.query(f"SELECT count(*) FROM {table}")[0][0]))  # noqa: S608
        for table in (
            "chat_conversation",
            "chat_message",
            "chat_generation WHERE via <> 'title'",  # created when the host is idle
        )
    )


async def refused(client: ChatClient, command: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(Refused) as caught:
        async with asyncio.timeout(60):
            await client.request(command)
    body: dict[str, Any] = caught.value.args[0]
    assert body["message"]
    return body
