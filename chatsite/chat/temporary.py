"""Temporary chats: the page holds their messages, the server stores none.

An answer takes the same way as any other (policy, queue, engine, stream). Its generation has no
message, like that of an API request; its stream expires `CHATSITE_TEMPORARY_SECONDS` after its
end, and can be followed until then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import IntegrityError
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.answers import admission
from chatsite.answers.admission import Admitted
from chatsite.answers.runtime import Runtime
from chatsite.answers.submit import enqueue
from chatsite.chat import turns
from chatsite.chat.protocol import SendTemporary, TemporaryMessage
from chatsite.conversations import prompt, schema
from chatsite.conversations.assistants import presets as assistants
from chatsite.conversations.models import Generation, GenerationState, Via
from chatsite.engine.contract.messages import ChatMessage
from chatsite.errors import ChatsiteError, EmptyMessage, MessageTooLong
from chatsite.knowledge import turns as knowledge
from chatsite.knowledge.models import Collection
from chatsite.knowledge.requests import with_passages_of
from chatsite.knowledge.turns import readable
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from chatsite.site_settings import current
from models_admin import catalogue

Mode = Literal["allowed", "forced", "forbidden"]

# Characters of a whole branch: more than the context of any model here holds.
_BRANCH_CHARS_MAX: Final = 4_000_000


class TemporaryChatsForbidden(ChatsiteError):
    code = "temporary_chats_forbidden"
    status = 403
    message = _("Temporary chats are not available to you. Start a new chat.")


class ChatsNotSaved(ChatsiteError):
    code = "chats_not_saved"
    status = 403
    message = _("This site does not save chats. Continue in a temporary chat.")


class TemporaryAnswerGone(ChatsiteError):
    code = "temporary_answer_gone"
    status = 404
    message = _("The server no longer has the text of this answer. Regenerate it.")


def mode(user: User) -> Mode:
    """Return whether the user may, must or can't use temporary chats."""
    setting: Mode = current().temporary_chats
    if setting == "allowed" and not decisions.allows(user, Feature.TEMPORARY_CHATS):
        return "forbidden"
    return setting


def require_saved(user: User) -> None:
    """Raise `ChatsNotSaved` if the user's chats must be temporary."""
    if mode(user) == "forced":
        raise ChatsNotSaved


async def submit(
    runtime: Runtime,
    user: User,
    command: SendTemporary,
    *,
    on_search: Callable[[], Awaitable[None]] | None = None,
) -> tuple[Generation, schema.Sources | None]:
    """Queue an answer. A command that was accepted before gets the same generation.

    The documents of its collections and of its assistant are searched before, and ``on_search``
    is called. What was found is returned and stored nowhere.

    Raises as `answers.submit.enqueue`; then nothing is left.
    """

    def save() -> tuple[Generation, Admitted | None, bool, list[Collection]]:
        if mode(user) == "forbidden":
            raise TemporaryChatsForbidden
        asked = readable(user, command.collections)
        generation, created = _generation(user, command)
        if generation.state != GenerationState.QUEUED:
            return generation, None, created, []
        if collections := [*asked, *knowledge.collections_of_assistant(generation.assistant, user)]:
            return generation, None, created, collections
        return generation, admit(generation, created, build(command.messages)), created, []

    def admit(generation: Generation, created: bool, messages: Sequence[ChatMessage]) -> Admitted:
        try:
            return _admitted(generation, command, messages)
        except ChatsiteError:
            _discard(generation, created=created)
            raise

    generation, admitted, created, collections = await sync_to_async(save)()
    sources = None
    if collections:
        if on_search is not None:
            await on_search()
        model = await sync_to_async(catalogue.installed)(generation.model)
        answerable = await with_passages_of(
            runtime,
            user,
            build(command.messages),
            collections,
            context=catalogue.context(model),
            secret=str(generation.pk)[:8],
        )
        sources = answerable.sources
        admitted = await sync_to_async(admit)(generation, created, answerable.messages)
    if admitted is None:
        return generation, None
    try:
        await enqueue(runtime, admitted)
    except ChatsiteError:
        await sync_to_async(_discard)(generation, created=created)
        raise
    return generation, sources


def _discard(generation: Generation, *, created: bool) -> None:
    if created:
        admission.withdraw(str(generation.pk))
        generation.delete()


def _generation(user: User, command: SendTemporary) -> tuple[Generation, bool]:
    """Return the saved generation, and whether it is new."""
    _check(command.messages)
    own = Generation.objects.of(user).filter(request_id=command.id, via=Via.TEMPORARY)
    own = own.select_related("assistant")
    if found := own.first():
        return found, False
    assistant = assistants.find(user, command.assistant)
    model = assistant.model if assistant else command.model
    catalogue.resolve(model)
    try:
        generation = Generation.objects.create(
            owner=user,
            via=Via.TEMPORARY,
            request_id=command.id,
            model=model,
            assistant=assistant,
            params=msgspec.to_builtins(command.params),
        )
    except IntegrityError:
        # The same command arrived concurrently on another socket and was first.
        if found := own.first():
            return found, False
        raise
    return generation, True


def _check(messages: tuple[TemporaryMessage, ...]) -> None:
    last = messages[-1]
    if last.role != "user" or not last.content.strip():
        raise EmptyMessage
    limit = settings.ENV.max_message_chars
    if len(last.content) > limit:
        raise MessageTooLong(length=len(last.content), limit=limit)
    if (length := sum(len(one.content) for one in messages)) > _BRANCH_CHARS_MAX:
        raise MessageTooLong(length=length, limit=_BRANCH_CHARS_MAX)


def _admitted(
    generation: Generation, command: SendTemporary, messages: Sequence[ChatMessage]
) -> Admitted:
    model = catalogue.installed(generation.model)
    request = turns.request_for(generation, tuple(messages), model, keep_latest=command.keep_latest)
    request = msgspec.structs.replace(request, resume_text=command.resume_text, temporary=True)
    return admission.admit(request, context=catalogue.context(model))


def build(messages: Iterable[TemporaryMessage]) -> tuple[ChatMessage, ...]:
    """Return the prompt of a branch that the page sent, by the rules of `prompt.build`."""
    return prompt.joined(
        (one.role, prompt.without_reasoning(one.content, msgspec.to_builtins(one.syntax)))
        for one in messages
    )
