"""The load through the whole stack: sockets as the browser opens them, and real users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from asgiref.sync import sync_to_async

from chatsite.bench import users
from chatsite.bench.chat_client import Answer, ChatClient
from chatsite.bench.load import Record, Shape, Turn

_ANSWER_SECONDS = 600


@asynccontextmanager
async def people(url: str, model: str, shape: Shape) -> AsyncIterator[Turn]:
    """Yield clients for ``shape.users`` users, who are deleted with their data afterwards."""
    made = [await sync_to_async(users.create)() for _user in range(shape.users)]
    try:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    ChatClient(url, await sync_to_async(users.cookie_of)(user))
                )
                for user in made
            ]
            last: dict[int, Answer] = {}

            async def turn(user: int, index: int, question: str, record: Record) -> None:
                answer = await clients[user].ask(
                    question,
                    model=model,
                    after=last.get(user) if index else None,
                    temperature=0.0,
                    max_tokens=shape.tokens,
                    ignore_eos=True,
                )
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await answer.ended.wait()
                last[user] = answer
                if answer.ttft is not None:
                    record.ttft.append(answer.ttft)
                record.gaps.extend(answer.gaps)
                generation = answer.generated
                record.tokens += generation.usage.completion_tokens or 0
                if generation.state != "done":
                    record.errors.append(str(generation.error))

            yield turn
    finally:
        await sync_to_async(users.remove)(made)
