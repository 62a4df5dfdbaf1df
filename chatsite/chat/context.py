"""How full the model's context would be, told before anything is sent.

The engine child counts, where the model is loaded. Where it isn't, bytes per token that this
model was seen to have give an estimate, which is called one.
"""

from __future__ import annotations

import logging
import math
import uuid
from dataclasses import dataclass, field
from typing import Final

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.chat import prompt
from chatsite.chat.assistants import store as assistants
from chatsite.chat.attachments import store
from chatsite.chat.models import Message
from chatsite.chat.protocol import Measure, Measured
from chatsite.chat.runtime import Runtime
from chatsite.dispatch.queue import PREFIX
from chatsite.engine import messages as m
from chatsite.errors import NotFound
from chatsite.inference import measuring, status
from models_admin import catalogue, custom

log = logging.getLogger(__name__)

_SEEN: Final = f"{PREFIX}tokens"  # hash by the model's digest
# Of English and code with today's vocabularies, about.
_BYTES_PER_TOKEN: Final = 3.5
# Shorter texts say little about the bytes in a token.
_WORTH_LEARNING: Final = 400
# What a template writes around a message, about, in tokens.
_FRAME: Final = 5
# Stands for a message that is not written yet: templates may refuse an empty one.
_PLACE: Final = "x"


class _Seen(msgspec.Struct, frozen=True):
    """What is known of a model that was loaded once."""

    bytes_per_token: float = _BYTES_PER_TOKEN
    context: int = 0


@dataclass(frozen=True)
class _Asked:
    """``instructions`` messages of the request come before what was said."""

    digest: str
    request: custom.Request | None = None
    instructions: int = 0
    documents: dict[str, str] = field(default_factory=dict)


async def measure(runtime: Runtime, user: User, command: Measure) -> Measured:
    """Raises `NotFound` for a conversation that is not the person's, `ModelMissing` or
    `ModelQuarantined`."""
    asked = await sync_to_async(_asked)(user, command)
    try:
        return await _measured(runtime.redis, asked, command)
    except RedisError as error:
        log.warning("tokens are estimated: %s", error)
        return _estimate(asked, command, _Seen(), settings.ENV.context)


async def count(runtime: Runtime, user: User, model: str, text: str) -> int | None:
    """Tokens of a text; None where they can only be estimated. Raises as `measure`."""
    measured = await measure(runtime, user, Measure("count", model, text))
    return None if measured.estimated else measured.message


def _asked(user: User, command: Measure) -> _Asked:
    assistant = assistants.find(user, command.assistant)
    model = catalogue.find(assistant.model if assistant else command.model)
    if not command.branch:
        return _Asked(model.version.digest)
    before: tuple[m.ChatMessage, ...] = ()
    if command.conversation and command.parent:
        leaf = Message.objects.of(user).filter(
            pk=command.parent, conversation=uuid.UUID(command.conversation)
        )
        parent = leaf.first()
        if parent is None:
            raise NotFound
        before = prompt.build(parent)
    request = custom.apply(
        custom.of(model),
        (*before, m.ChatMessage("user", _PLACE)),
        {},
        system=settings.ENV.system_prompt,
        preset=assistants.preset(assistant),
    )
    documents = {str(one.pk): store.as_text(one) for one in store.take(user, command.attachments)}
    instructions = max(0, len(request.messages) - len(before) - 1)
    return _Asked(model.version.digest, request, instructions, documents)


async def _measured(redis: Redis, asked: _Asked, command: Measure) -> Measured:
    hosts = await status.alive(redis)
    request = asked.request
    frame = m.Measure(
        uuid.uuid4().hex,
        request.messages if request else (),
        request.options if request else m.PromptOptions(),
        (command.content, _PLACE, *_instructions(asked), *asked.documents.values()),
    )
    answer = await measuring.ask(redis, hosts, asked.digest, frame)
    known = [
        model.context
        for host in hosts
        for model in host.models
        if model.digest == asked.digest and model.context
    ]
    if answer is None or not known:
        seen = await _recall(redis, asked.digest)
        context = known[0] if known else seen.context or settings.ENV.context
        return _estimate(asked, command, seen, context)
    context = known[0]
    message, place, *others = answer.texts
    if request is None:
        return Measured(command.id, context, message, estimated=False)
    await _learn(redis, asked.digest, request.messages, answer.prompt, context)
    before = max(0, answer.prompt - place)
    own, attached = others[: asked.instructions], others[asked.instructions :]
    # The head has the instructions in it only where they are an administrator's.
    system = answer.head + (0 if request.options.administered else sum(own))
    if len(request.messages) == asked.instructions + 1:
        system = before
    attachments = dict(zip(asked.documents, attached, strict=True))
    return Measured(command.id, context, message, False, system, before - system, attachments)


def _instructions(asked: _Asked) -> list[str]:
    messages = asked.request.messages if asked.request else ()
    return [message.content for message in messages[: asked.instructions]]


def _estimate(asked: _Asked, command: Measure, seen: _Seen, context: int) -> Measured:
    def tokens(text: str) -> int:
        return math.ceil(len(text.encode()) / seen.bytes_per_token)

    message = tokens(command.content)
    if asked.request is None:
        return Measured(command.id, context, message, estimated=True)
    *before, _ = asked.request.messages
    counts = [tokens(one.content) + _FRAME for one in before]
    own = asked.instructions
    attachments = {id: tokens(text) for id, text in asked.documents.items()}
    system, history = sum(counts[:own]), sum(counts[own:])
    return Measured(command.id, context, message, True, system, history, attachments)


async def _recall(redis: Redis, digest: str) -> _Seen:
    found: bytes | None = await redis.hget(_SEEN, digest)  # type: ignore[misc]
    return msgspec.json.decode(found, type=_Seen) if found else _Seen()


async def _learn(
    redis: Redis, digest: str, messages: tuple[m.ChatMessage, ...], tokens: int, context: int
) -> None:
    size = sum(len(message.content.encode()) for message in messages)
    if size < _WORTH_LEARNING or not tokens:
        return
    seen = await _recall(redis, digest)
    now = _Seen((seen.bytes_per_token + size / tokens) / 2, context)
    await redis.hset(_SEEN, digest, msgspec.json.encode(now).decode())  # type: ignore[misc]
