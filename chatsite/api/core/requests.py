"""The single path of API requests into the queue, the streams and the fairness of the chat page.

A generation is saved without its content. It lives as long as its client listens: leaving `ask`
before the end stops it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from django.db import DatabaseError

from chatsite import logs
from chatsite.accounts.keys import Caller, watched
from chatsite.answers import admission, gate
from chatsite.answers.admission import Admitted
from chatsite.answers.queue.request import QueuedRequest
from chatsite.answers.runtime import Runtime
from chatsite.answers.submit import enqueue, stop
from chatsite.api.core.database import in_database
from chatsite.conversations.models import Generation
from chatsite.engine.contract.messages import (
    API,
    ChatMessage,
    Embed,
    OutputSyntax,
    PromptOptions,
    SamplingParams,
    TokenLogprob,
)
from chatsite.errors import (
    ChatsiteError,
    ContextOverflow,
    Interrupted,
    InvalidKey,
    NotAChatModel,
)
from chatsite.stream.entries import End, Vectors
from chatsite.stream.hub import GenerationFeed, QueuePosition
from models_admin import catalogue, facts
from models_admin.config import custom

DEFAULT_PARAMS: Final = SamplingParams()
DEFAULT_OPTIONS: Final = PromptOptions()
# Characters of the longest tokens in known vocabularies: runs of spaces.
_TOKEN_CHARS: Final = 128

log = logging.getLogger(__name__)

R = TypeVar("R")
# About a quarter of an hour in total. After that the reaper saves the end.
STOP_RETRY_SECONDS: Final = (1, 2, 5, 10, 20, *(60,) * 14)
open_stops: set[asyncio.Task[Any]] = set()


class TextChunk(msgspec.Struct, frozen=True):
    """New text, with the log probabilities of its tokens if they were requested."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


Event = QueuePosition | TextChunk | Vectors | End | None


@dataclass
class Answer:
    """One answer in progress, to be iterated once.

    Yields a `QueuePosition` whenever it changes, each `TextChunk`, the `Vectors` of an embedding
    request, None at intervals while there is no news, so that the reader can send a keep-alive, and
    `End` last.

    ``id`` is the generation's; ``model`` the name in the catalogue; ``digest`` that of its file;
    ``ahead`` the number of jobs ahead of this one when it was accepted; ``created`` is in seconds
    since the epoch.
    """

    id: str
    model: str
    digest: str
    ahead: int
    created: float
    caller: Caller
    feed: GenerationFeed
    ended: bool = field(default=False, init=False)

    @property
    def syntax(self) -> OutputSyntax:
        """Return how the model marks reasoning and calls; known once the first text has arrived."""
        return self.feed.syntax

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the events in order.

        Raises `InvalidKey` when the caller's key is revoked meanwhile, and `Interrupted` when text
        was lost: text that was sent can't be taken back, and the answer must not look complete.
        """
        feed, cursor, seen, place, woken = self.feed, 0, 0, None, False
        prompted = False
        while True:
            if self.caller.ended:
                raise InvalidKey
            if feed.torn:
                raise Interrupted
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
                begun = feed.prompt is not None and not prompted
                if text.text or logprobs or begun:
                    prompted = feed.prompt is not None
                    yield TextChunk(text.text, logprobs)
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
    chats: bool = False,
) -> AsyncIterator[Answer]:
    """Save and queue one generation, and yield its `Answer`; leaving before its end stops it.

    With ``embed`` the vectors of its inputs are computed; its ``id`` and ``owner`` are set here.
    A custom model's configuration applies beneath ``params``. ``said`` names the fields that the
    request sets; without it these are the ones that differ from their defaults. ``keep_alive`` is
    as in `QueuedRequest`. With ``chats`` a base model, which only continues text, is refused.

    Raises `NotAChatModel`, `ModelMissing`, `ModelQuarantined`, `ContextOverflow`, and the errors of
    `admission.admit` and `enqueue`.
    """
    id, created = str(uuid.uuid4()), time.time()
    owner = str(caller.user.pk)

    def save() -> tuple[str, str, Admitted]:
        gate.require_open(caller.user)
        found = catalogue.find(model, caller.user)
        if chats and facts.only_continues(found):
            raise NotAChatModel
        _require_room(catalogue.context(found), messages, options, embed)
        fields = msgspec.to_builtins(params) if said is None else said
        request = custom.apply(custom.of(found), messages, fields, prompt=options)
        job = QueuedRequest(
            id=id,
            owner=owner,
            model=found.name,
            messages=request.messages,
            queued_at=created,
            params=request.params,
            options=request.options,
            priority=API,
            embed=msgspec.structs.replace(embed, id=id, owner=owner) if embed else None,
            keep_alive=keep_alive,
        )
        # Before the generation is saved, so that a refused request leaves nothing. The reaper
        # settles a reservation without a generation.
        admitted = admission.admit(job, context=catalogue.context(found))
        Generation.objects.create(
            id=id, owner=caller.user, via=caller.door, api_key=caller.key, model=found.name
        )
        return found.name, found.version.digest, admitted

    name, digest, admitted = await in_database(save)
    answer: Answer | None = None
    refused = False
    # Lines about the request name all of its answers.
    others = logs.generation_id.get()
    logs.generation_id.set(f"{others} {id}".strip())
    try:
        try:
            ahead = await enqueue(runtime, admitted)
        except ChatsiteError:
            refused = True
            await in_database(partial(_discard, id))
            raise
        async with watched(caller), runtime.hub.follow(id, name) as feed:
            answer = Answer(id, name, digest, ahead, created, caller, feed)
            yield answer
    finally:
        if not refused and (answer is None or not answer.ended):
            await _stop(runtime, caller, id)
        logs.generation_id.set(others)


def _discard(id: str) -> None:
    Generation.objects.filter(pk=id).delete()
    admission.withdraw(id)


def _require_room(
    context: int, messages: Sequence[ChatMessage], options: PromptOptions, embed: Embed | None
) -> None:
    """Refuse a prompt that can't fit into ``context`` tokens, however it is tokenized.

    The engine would refuse it too, but only after the text went through Redis and was tokenized.
    Raises `ContextOverflow`, whose token count is a lower bound.
    """
    texts = [len(one) for one in embed.inputs] if embed and not embed.truncate else []
    if embed is None and options.overflow == "error":
        said = sum(len(one.content) + len(one.reasoning) for one in messages)
        texts.append(said + len(options.raw or "") + len(options.suffix))
    least = max(texts, default=0) // _TOKEN_CHARS
    if least > context:
        raise ContextOverflow(prompt_tokens=least, context=context)


async def _stop(runtime: Runtime, caller: Caller, id: str) -> None:
    """Stop a request whose client has disconnected; completes even if cancelled again.

    If that fails, it is retried in the background without delaying the request.
    """
    await asyncio.shield(_in_background(_stop_or_retry(runtime, caller, id)))


async def _stop_or_retry(runtime: Runtime, caller: Caller, id: str) -> None:
    if not await _try_to_stop(runtime, caller, id):
        _in_background(_stop_later(runtime, caller, id))


def _in_background(work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
    task = asyncio.create_task(work)
    open_stops.add(task)
    task.add_done_callback(open_stops.discard)
    return task


async def _try_to_stop(runtime: Runtime, caller: Caller, id: str) -> bool:
    try:
        await stop(runtime, caller.user, id)
    except (ChatsiteError, DatabaseError) as error:
        log.warning("Generation can't be stopped yet", extra={"generation": id, "error": error})
        return False
    return True


async def _stop_later(runtime: Runtime, caller: Caller, id: str) -> None:
    for seconds in STOP_RETRY_SECONDS:
        await asyncio.sleep(seconds)
        if await _try_to_stop(runtime, caller, id):
            return
    log.error("Generation can't be stopped; it runs to its limit", extra={"generation": id})
