"""What tests of the chat socket ask of an answer and of the database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatsite.bench.client import Answer, ChatClient, Refused
from tests.support.stack import Stack


async def ended(answer: Answer, seconds: float = 30) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        await answer.ended.wait()
    assert answer.message
    generation: dict[str, Any] = answer.message["generation"]
    return generation


def counts(stack: Stack) -> tuple[int, ...]:
    return tuple(
        int(str(stack.query(f"SELECT count(*) FROM {table}")[0][0]))  # noqa: S608
        for table in (
            "chat_conversation",
            "chat_message",
            "chat_generation WHERE via <> 'title'",  # made when there is time
        )
    )


async def refused(client: ChatClient, command: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(Refused) as caught:
        async with asyncio.timeout(10):
            await client.request(command)
    body: dict[str, Any] = caught.value.args[0]
    assert body["message"]
    return body
