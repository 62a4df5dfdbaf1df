"""The one way for programs to ask: the queue, fairness and streams of the chat page.

A request is saved without anything that it says. It lives as long as its program listens: who
leaves `ask` before the end has it stopped.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from chatsite.accounts.keys import Caller, watched
from chatsite.api.database import in_database
from chatsite.chat.models import Generation, Via
from chatsite.chat.runtime import Runtime
from chatsite.chat.submit import enqueue, stop
from chatsite.dispatch.messages import Job
from chatsite.engine.messages import (
    API,
    ChatMessage,
    Embed,
    OutputSyntax,
    PromptOptions,
    SamplingParams,
    TokenLogprob,
)
from chatsite.errors import ChatsiteError, InvalidKey
from chatsite.stream.hub import Feed, Place
from chatsite.stream.messages import End, Vectors
from models_admin import catalogue, custom

DEFAULT_PARAMS: Final = SamplingParams()
DEFAULT_OPTIONS: Final = PromptOptions()

_stops: set[asyncio.Task[None]] = set()


class Piece(msgspec.Struct, frozen=True):
    """New text, with the log probabilities of its tokens if they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


Event = Place | Piece | Vectors | End | None


@dataclass
class Answer:
    """One answer in the making. Iterate it once: it yields the `Place` in line as it changes,
    each `Piece` of text, the `Vectors` of an embedding request, None now and then while there is
    no news, so that its reader can send a sign of life, and the `End` last.

    ``id`` is the generation's; ``model`` the name as it is in the catalogue, ``digest`` of its
    file; ``ahead`` the jobs before this one when it was accepted; ``created`` in seconds since
    the epoch.
    """

    id: str
    model: str
    digest: str
    ahead: int
    created: float
    caller: Caller
    feed: Feed
    ended: bool = field(default=False, init=False)

    @property
    def syntax(self) -> OutputSyntax:
        """How the model marks reasoning and calls; known once the first text is here."""
        return self.feed.syntax

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Raises `InvalidKey` when the caller's key is revoked meanwhile."""
        feed, cursor, seen, place, woken = self.feed, 0, 0, None, False
        while True:
            if self.caller.ended:
                raise InvalidKey
            change = feed.next_change()
            if feed.place is not None and feed.place != place and not feed.texts:
                place = feed.place
                yield place
            elif text := feed.read(cursor):
                cursor = text.end
                logprobs = tuple(feed.logprobs[seen:])
                seen += len(logprobs)
                if feed.vectors is not None:
                    yield feed.vectors
                if text.text or logprobs:
                    yield Piece(text.text, logprobs)
            elif feed.end is not None:
                self.ended = True
                yield feed.end
                return
            else:
                if woken:
                    yield None
                await change.wait()
                woken = True
                continue
            woken = False


@asynccontextmanager
async def ask(
    runtime: Runtime,
    caller: Caller,
    model: str,
    messages: Sequence[ChatMessage] = (),
    params: SamplingParams = DEFAULT_PARAMS,
    options: PromptOptions = DEFAULT_OPTIONS,
    *,
    embed: Embed | None = None,
    said: Mapping[str, Any] | None = None,
    keep_alive: float | None = None,
) -> AsyncIterator[Answer]:
    """Saves and queues one request; leaving before its end stops it. With ``embed`` vectors are
    wanted of its inputs, whose ``id`` and ``owner`` are set here. What a custom model has of its
    own goes beneath ``params``; ``said`` names the fields that count, if it is known, in place
    of those that differ from their defaults. ``keep_alive`` is as in `Job`.

    Raises `ModelMissing`, `ModelQuarantined`, `QueueFull`, `TooManyRequests`,
    `StreamsUnavailable`.
    """
    id, created = str(uuid.uuid4()), time.time()
    owner = str(caller.user.pk)

    def save() -> tuple[str, str, custom.Request]:
        found = catalogue.find(model)
        fields = msgspec.to_builtins(params) if said is None else said
        request = custom.apply(custom.of(found), messages, fields, prompt=options)
        Generation.objects.create(
            id=id, owner=caller.user, via=Via.API, api_key=caller.key, model=found.name
        )
        return found.name, found.version.digest, request

    name, digest, request = await in_database(save)
    job = Job(
        id=id,
        owner=owner,
        model=name,
        messages=request.messages,
        queued_at=created,
        params=request.params,
        options=request.options,
        priority=API,
        embed=Embed(id, owner, embed.inputs, embed.truncate) if embed else None,
        keep_alive=keep_alive,
    )
    answer: Answer | None = None
    refused = False
    try:
        try:
            ahead = await enqueue(runtime, job)
        except ChatsiteError:
            refused = True
            await in_database(Generation.objects.filter(pk=id).delete)
            raise
        async with watched(caller), runtime.hub.follow(id, name) as feed:
            answer = Answer(id, name, digest, ahead, created, caller, feed)
            yield answer
    finally:
        if not refused and (answer is None or not answer.ended):
            await _stop(runtime, caller, id)


async def _stop(runtime: Runtime, caller: Caller, id: str) -> None:
    """Goes on to its end even when the one who waits for it is cancelled again."""
    task = asyncio.create_task(_stop_quietly(runtime, caller, id), name=f"stop {id}")
    _stops.add(task)
    task.add_done_callback(_stops.discard)
    await asyncio.shield(task)


async def _stop_quietly(runtime: Runtime, caller: Caller, id: str) -> None:
    # Without Redis nothing can be stopped; the host's own limits and the reaper end it.
    with suppress(ChatsiteError):
        await stop(runtime, caller.user, id)
