"""The asynchronous `openai` client, and many concurrent streams."""

from __future__ import annotations

import asyncio

from openai import AsyncOpenAI

from tests.clients.test_openai import says
from tests.support.stack import MODEL, Stack


async def test_the_async_client(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=says("one two"), stream=True
    )
    parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(parts) == "one two"


def memory(stack: Stack) -> int:
    """Return the resident bytes of the processes that a stream passes through."""
    roles = ("daphne", "inference", "engine")
    return sum(process.memory_info().rss for role in roles for process in stack.find(role))


async def test_two_hundred_streams_each_get_their_own_answer(
    api_stack: Stack, async_client: AsyncOpenAI
) -> None:
    async def one(number: int) -> str:
        stream = await async_client.chat.completions.create(
            model=MODEL, messages=says(f"number {number} of many"), stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    expected = [f"number {number} of many" for number in range(200)]
    assert await asyncio.gather(*map(one, range(200))) == expected
    # The first run allocates memory once (pools, code, arenas), which is no leak.
    before = memory(api_stack)
    assert await asyncio.gather(*map(one, range(200))) == expected
    assert memory(api_stack) - before < 16 << 20
