"""Several requests as one: `n` choices, or a list of prompts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from chatsite.accounts.keys import Caller
from chatsite.api.requests import DEFAULT_OPTIONS, DEFAULT_PARAMS, Answer, Event, ask
from chatsite.chat.runtime import Runtime
from chatsite.engine.messages import ChatMessage, Embed, PromptOptions, SamplingParams
from chatsite.errors import ChatsiteError, EngineFailed, Interrupted, revived
from chatsite.stream.messages import End


@dataclass(frozen=True)
class Wanted:
    """The arguments of one `ask`."""

    model: str
    messages: Sequence[ChatMessage] = ()
    params: SamplingParams = DEFAULT_PARAMS
    options: PromptOptions = DEFAULT_OPTIONS
    embed: Embed | None = None
    said: Mapping[str, Any] | None = None
    keep_alive: float | None = None


@dataclass(frozen=True)
class Answers:
    """All of them, in the order of the requests. ``position``: jobs before the first one."""

    all: tuple[Answer, ...]

    @property
    def first(self) -> Answer:
        return self.all[0]

    @property
    def position(self) -> int:
        return self.first.ahead

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Events of all answers as they come, each with the answer's index. Raises the error
        that an answer ended with."""
        if len(self.all) == 1:
            async for event in self.first:
                yield 0, _checked(event)
            return
        queue: asyncio.Queue[tuple[int, Event | Exception]] = asyncio.Queue(64)

        async def pump(index: int) -> None:
            try:
                async for event in self.all[index]:
                    await queue.put((index, event))
            except ChatsiteError as error:
                await queue.put((index, error))

        tasks = [asyncio.create_task(pump(index)) for index in range(len(self.all))]
        try:
            open = len(tasks)
            while open:
                index, came = await queue.get()
                if isinstance(came, Exception):
                    raise came
                open -= isinstance(came, End)
                yield index, _checked(came)
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def ask_all(
    runtime: Runtime, caller: Caller, wanted: Sequence[Wanted]
) -> AsyncIterator[Answers]:
    """Asks for all; if one is refused, or at the end, what is still open is stopped."""
    async with AsyncExitStack() as stack:
        answers = [
            await stack.enter_async_context(
                ask(
                    runtime,
                    caller,
                    w.model,
                    w.messages,
                    w.params,
                    w.options,
                    embed=w.embed,
                    said=w.said,
                    keep_alive=w.keep_alive,
                )
            )
            for w in wanted
        ]
        yield Answers(tuple(answers))


def _checked(event: Event) -> Event:
    if isinstance(event, End) and event.state != "done":
        raise failure(event)
    return event


def failure(end: End) -> ChatsiteError:
    """The refusal that an end which is not done stands for."""
    if end.error is None:
        return Interrupted()
    return revived(end.error) or EngineFailed(end.error.get("message"))
