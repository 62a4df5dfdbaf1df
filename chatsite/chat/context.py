"""How full the model's context would be, shown before a message is sent.

The engine child counts if the model is loaded. Otherwise the count is estimated from the bytes per
token seen with this model, and marked as an estimate.
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
from chatsite.answers.runtime import Runtime
from chatsite.chat import temporary
from chatsite.chat.protocol import CountTokens, TokenCounts
from chatsite.conversations import prompt
from chatsite.conversations.assistants import presets as assistants
from chatsite.conversations.attachments import selection, storage
from chatsite.conversations.models import Message
from chatsite.engine.contract import messages as m
from chatsite.errors import MessageNotFound
from chatsite.hosts import status, token_counts
from chatsite.knowledge import augment
from chatsite.knowledge import turns as knowledge
from chatsite.redis_keys import BYTES_PER_TOKEN
from chatsite.site_settings import current
from models_admin import catalogue
from models_admin.config import custom

log = logging.getLogger(__name__)

# About the average for English and code with current vocabularies.
_BYTES_PER_TOKEN: Final = 3.5
# Shorter texts say little about the bytes per token.
_WORTH_LEARNING: Final = 400
# Approximate tokens that a template adds to a message.
_FRAME: Final = 5
# Placeholder for a message that is not written yet: templates may refuse an empty one.
_PLACE: Final = "x"


class _Seen(msgspec.Struct, frozen=True):
    """What is known of a model that was loaded before."""

    bytes_per_token: float = _BYTES_PER_TOKEN
    context: int = 0


@dataclass(frozen=True)
class _Asked:
    """The parts of a count; the first ``instructions`` messages of ``request`` are instructions.

    ``documents`` are the texts that are sent of attachments; of those in ``matching`` passages are
    sent that match the question. ``searches``: passages of documents come into the prompt.
    """

    digest: str
    request: custom.Request | None = None
    instructions: int = 0
    documents: dict[str, str] = field(default_factory=dict)
    matching: tuple[str, ...] = ()
    searches: bool = False

    def passages(self, context: int, others: int) -> int | None:
        """Return the most tokens that passages take, beside ``others``; None if there are none."""
        if not self.searches:
            return None
        return augment.expected(context, others, attachments=bool(self.matching))


async def count_branch(runtime: Runtime, user: User, command: CountTokens) -> TokenCounts:
    """Count the tokens of a message and, if requested, of its branch.

    Raises `MessageNotFound` for a conversation that is not the user's, `ModelMissing` or
    `ModelQuarantined`.
    """
    asked = await sync_to_async(_asked)(user, command)
    try:
        return await _measured(runtime.redis, asked, command, str(user.pk))
    except RedisError as error:
        log.warning("Tokens are estimated: Redis is not responding", extra={"error": error})
        return _estimate(asked, command, _Seen(), settings.ENV.context)


async def count(runtime: Runtime, user: User, model: str, text: str) -> int | None:
    """Return the tokens of a text; None if they can only be estimated. Raises as `count_branch`."""
    measured = await count_branch(runtime, user, CountTokens("count", model, text))
    return None if measured.estimated else measured.message


def _asked(user: User, command: CountTokens) -> _Asked:
    assistant = assistants.find(user, command.assistant)
    model = catalogue.find(assistant.model if assistant else command.model, user)
    if not command.branch:
        return _Asked(model.version.digest)
    before: tuple[m.ChatMessage, ...] = temporary.build(command.messages)
    searches = bool(command.collections) or knowledge.of_assistant(assistant)
    if command.conversation and command.parent:
        leaf = Message.objects.of(user).filter(
            pk=command.parent, conversation=uuid.UUID(command.conversation)
        )
        annotated = leaf.annotate(searches=knowledge.searches("chat_message.conversation_id"))
        parent = annotated.first()
        if parent is None:
            raise MessageNotFound
        searches = searches or bool(parent.searches)  # type: ignore[attr-defined]  # annotated
        before = prompt.build(parent)
    request = custom.apply(
        custom.of(model),
        (*before, m.ChatMessage("user", _PLACE)),
        {},
        system=current().system_prompt,
        preset=assistants.preset(assistant),
    )
    attachments = storage.ready_attachments(user, command.attachments)
    sent = selection.choose(attachments, command.selections, catalogue.context(model))
    documents = {str(one.pk): storage.as_text(one, sent[one.pk]) for one in attachments}
    matching = tuple(str(id) for id, pages in sent.items() if pages == "")
    return _Asked(
        model.version.digest,
        request,
        instructions=max(0, len(request.messages) - len(before) - 1),
        documents=documents,
        matching=matching,
        searches=searches or bool(matching),
    )


async def _measured(redis: Redis, asked: _Asked, command: CountTokens, owner: str) -> TokenCounts:
    hosts = await status.alive(redis)
    request = asked.request
    frame = m.CountTokens(
        uuid.uuid4().hex,
        request.messages if request else (),
        request.options if request else m.PromptOptions(),
        (command.content, _PLACE, *_instructions(asked), *asked.documents.values()),
        owner=owner,
    )
    answer = await token_counts.ask(redis, hosts, asked.digest, frame)
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
        return TokenCounts(command.id, context, message, estimated=False)
    await learn(redis, asked.digest, request.messages, answer.prompt, context)
    before = max(0, answer.prompt - place)
    own, attached = others[: asked.instructions], others[asked.instructions :]
    # The head includes the instructions only if they are an administrator's.
    system = answer.head + (0 if request.options.administered else sum(own))
    if len(request.messages) == asked.instructions + 1:
        system = before
    return TokenCounts(
        command.id,
        context,
        message,
        estimated=False,
        system=system,
        history=before - system,
        attachments=dict(zip(asked.documents, attached, strict=True)),
        matching=list(asked.matching),
        passages=asked.passages(context, before + sum(attached) + message),
    )


def _instructions(asked: _Asked) -> list[str]:
    messages = asked.request.messages if asked.request else ()
    return [message.content for message in messages[: asked.instructions]]


def _estimate(asked: _Asked, command: CountTokens, seen: _Seen, context: int) -> TokenCounts:
    def tokens(text: str) -> int:
        return math.ceil(len(text.encode()) / seen.bytes_per_token)

    message = tokens(command.content)
    if asked.request is None:
        return TokenCounts(command.id, context, message, estimated=True)
    *before, _ = asked.request.messages
    counts = [tokens(one.content) + _FRAME for one in before]
    own = asked.instructions
    attachments = {id: tokens(text) for id, text in asked.documents.items()}
    system, history = sum(counts[:own]), sum(counts[own:])
    return TokenCounts(
        command.id,
        context,
        message,
        estimated=True,
        system=system,
        history=history,
        attachments=attachments,
        matching=list(asked.matching),
        passages=asked.passages(context, system + history + sum(attachments.values()) + message),
    )


async def _recall(redis: Redis, digest: str) -> _Seen:
    found: bytes | None = await redis.hget(BYTES_PER_TOKEN, digest)  # type: ignore[misc]
    return msgspec.json.decode(found, type=_Seen) if found else _Seen()


async def learn(
    redis: Redis, digest: str, messages: tuple[m.ChatMessage, ...], tokens: int, context: int
) -> None:
    size = sum(len(message.content.encode()) for message in messages)
    if size < _WORTH_LEARNING or not tokens:
        return
    seen = await _recall(redis, digest)
    now = _Seen((seen.bytes_per_token + size / tokens) / 2, context)
    await redis.hset(BYTES_PER_TOKEN, digest, msgspec.json.encode(now).decode())  # type: ignore[misc]
