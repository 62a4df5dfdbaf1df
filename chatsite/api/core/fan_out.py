"""Several generations for one API request: `n` choices, or a list of prompts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from django.utils.functional import Promise

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import Runtime
from chatsite.api.core.requests import DEFAULT_OPTIONS, DEFAULT_PARAMS, Answer, Event, ask
from chatsite.engine.contract.messages import ChatMessage, Embed, PromptOptions, SamplingParams
from chatsite.errors import ChatsiteError, ContextOverflow, EngineFailed, Interrupted, revived
from chatsite.stream.entries import End


@dataclass(frozen=True)
class GenerationRequest:
    """The arguments of one `ask`. ``param`` is the field of the request that holds the prompt."""

    model: str
    messages: Sequence[ChatMessage] = ()
    params: SamplingParams = DEFAULT_PARAMS
    options: PromptOptions = DEFAULT_OPTIONS
    embed: Embed | None = None
    said: Mapping[str, Any] | None = None
    keep_alive: float | None = None
    param: str = "messages"
    chats: bool = False


@dataclass(frozen=True)
class Answers:
    """The answers to one API request, in the order of its generations.

    ``position`` is the number of jobs ahead of the first one. ``param`` is as in
    `GenerationRequest`.
    """

    all: tuple[Answer, ...]
    param: str = "messages"

    @property
    def first(self) -> Answer:
        return self.all[0]

    @property
    def position(self) -> int:
        return self.first.ahead

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Yield the events of all answers as they arrive, each with the index of its answer.

        Raises the error of the first answer that fails.
        """
        if len(self.all) == 1:
            async for event in self.first:
                yield 0, self._checked(event)
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
                yield index, self._checked(came)
        finally:
            for task in tasks:
                task.cancel()

    def _checked(self, event: Event) -> Event:
        if isinstance(event, End) and event.state != "done":
            raise failure(event, self.param)
        return event


@asynccontextmanager
async def ask_all(
    runtime: Runtime, caller: Caller, wanted: Sequence[GenerationRequest]
) -> AsyncIterator[Answers]:
    """Submit all requests. If one is refused, and on exit, stop those that are still open."""
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
                    chats=w.chats,
                )
            )
            for w in wanted
        ]
        yield Answers(tuple(answers), wanted[0].param)


class PromptTooLong(ContextOverflow):
    """A context overflow in the words by which clients recognize it.

    LangChain, LiteLLM and its dependents (aider, OpenHands), and Ollama's own tests match parts of
    this text, so it is not translated.
    """

    message: str | Promise = (
        "The prompt is too long: it exceeds the context length (context_length_exceeded)."
    )
    detailed: ClassVar[str | Promise] = (
        "This model's maximum context length is %(context)s tokens. However, your %(param)s "
        "resulted in %(prompt_tokens)s tokens: the prompt is too long, the input length exceeds "
        "the context length. Please reduce the length of the %(param)s. (context_length_exceeded)"
    )


def failure(end: End, param: str) -> ChatsiteError:
    """Return the error for an end whose state is not ``done``."""
    if end.error is None:
        return Interrupted()
    error = revived(end.error) or EngineFailed(end.error.get("message"))
    if isinstance(error, ContextOverflow):
        return PromptTooLong(**error.details, param=param)
    return error
