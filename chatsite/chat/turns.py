"""One chat turn in SQL: a user message, the answer to come, and its queued generation.

All functions are synchronous, run in one short transaction, and query by the user.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.answers import admission
from chatsite.answers.admission import Admitted
from chatsite.answers.queue.request import QueuedRequest
from chatsite.chat.protocol import Continue, Edit, Regenerate, Send, TurnCommand
from chatsite.conversations import prompt, titles
from chatsite.conversations.assistants import presets as assistants
from chatsite.conversations.attachments import selection, storage
from chatsite.conversations.attachments.models import Attachment
from chatsite.conversations.models import (
    OPEN_STATES,
    Conversation,
    Generation,
    GenerationState,
    Message,
)
from chatsite.engine.contract.messages import ChatMessage, PromptOptions
from chatsite.errors import (
    Busy,
    ConversationNotFound,
    EmptyMessage,
    MessageNotFound,
    MessageTooLong,
    NothingToContinue,
)
from chatsite.knowledge import turns as knowledge
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from chatsite.search import index
from chatsite.site_settings import current
from models_admin import catalogue
from models_admin.config import custom
from models_admin.models import ModelName

# After this many questions without a usable title no more are generated.
_TITLE_TRIALS = 3


@dataclass(frozen=True)
class Fields:
    """The fields of a conversation that a turn changes."""

    head_id: uuid.UUID | None
    updated_at: datetime
    keep_latest: bool


@dataclass(frozen=True)
class Turn:
    """A saved turn.

    ``user_message`` is None for a regeneration. ``created`` is False if the request was accepted
    earlier. ``searches``: documents may have to be searched for it. ``continued_from`` is the
    earlier generation of a continued answer; ``was`` has the conversation's fields before the turn.
    """

    conversation: Conversation
    user_message: Message | None
    answer: Message
    generation: Generation
    created: bool = True
    searches: bool = True
    new_conversation: bool = False
    continued_from: Generation | None = None
    was: Fields | None = None


def send(user: User, command: Send) -> Turn:
    if command.attachments:
        decisions.require(user, Feature.ATTACHMENTS)
    attachments = storage.ready_attachments(user, command.attachments)
    content = _checked(command.content, may_be_empty=bool(attachments))
    with transaction.atomic():
        if command.conversation is None:
            title = titles.first_line(content) or attachments[0].name
            conversation = Conversation.objects.create(
                owner=user, title=title[:200], untitled=titles.worth_generating(content)
            )
            index.put_title(conversation)
            parent, searches = None, False
        else:
            conversation = _conversation(user, command.conversation)
            parent = _parent(conversation, command.parent)
            searches = _searches(conversation)
        if command.collections is not None:
            knowledge.set_collections(conversation, user, command.collections)
            searches = searches or bool(command.collections)
        message = Message.objects.create(
            conversation=conversation, parent=parent, role=Message.Role.USER, content=content
        )
        index.put(message, user.pk)
        storage.attach(message, attachments)
        return _queue_answer(
            user,
            conversation,
            message,
            command,
            new=message,
            attachments=attachments,
            began=command.conversation is None,
            searches=searches,
        )


def edit(user: User, command: Edit) -> Turn:
    if command.attachments:
        decisions.require(user, Feature.ATTACHMENTS)
    with transaction.atomic():
        edited = _message(user, command.message, Message.Role.USER)
        attachments = (
            list(edited.attachments.all())
            if command.attachments is None
            else storage.ready_attachments(user, command.attachments)
        )
        content = _checked(command.content, may_be_empty=bool(attachments))
        message = Message.objects.create(
            conversation=edited.conversation,
            parent_id=edited.parent_id,
            role=Message.Role.USER,
            content=content,
        )
        index.put(message, user.pk)
        storage.attach(message, attachments)
        kept = selection.of_message(edited) if attachments else ()
        return _queue_answer(
            user,
            edited.conversation,
            message,
            msgspec.structs.replace(command, selections=(*kept, *command.selections)),
            new=message,
            attachments=attachments,
            searches=_searches(edited),
        )


def regenerate(user: User, command: Regenerate) -> Turn:
    with transaction.atomic():
        answer = _message(user, command.message, Message.Role.ASSISTANT)
        if answer.parent is None:
            raise MessageNotFound
        # Several answers to one question at the same time are a comparison.
        if Generation.objects.open().filter(message__parent=answer.parent).exists():
            decisions.require(user, Feature.COMPARE)
        searches = _searches(answer)
        return _queue_answer(
            user, answer.conversation, answer.parent, command, new=None, searches=searches
        )


def continue_answer(user: User, command: Continue) -> Turn:
    """Create a new generation for the same answer; the earlier one is kept without its message."""
    with transaction.atomic():
        answer = _message(user, command.message, Message.Role.ASSISTANT)
        before = Generation.objects.filter(message=answer).first()
        if before is None or answer.parent is None:
            raise MessageNotFound
        if before.state in OPEN_STATES:
            raise Busy
        if not before.was_cut or not answer.content or answer.children.exists():
            raise NothingToContinue
        catalogue.find(before.model, user)
        if before.assistant_id is not None:
            decisions.require_assistant(user, before.assistant_id)
        # Of two concurrent requests, the later one waits here for the first and then changes no
        # row.
        if not Generation.objects.filter(pk=before.pk, message=answer).update(message=None):
            raise Busy
        kept = {name: ms for name, ms in before.timings.items() if name == "reasoning"}
        generation = Generation.objects.create(
            owner=user,
            message=answer,
            request_id=command.id,
            model=before.model,
            assistant=before.assistant,
            params=before.params,
            syntax=before.syntax,
            timings=kept,
        )
        was = _touch(answer.conversation, answer)
        # It keeps the passages that it has, and gets no others: its text cites them by number.
        return Turn(
            answer.conversation,
            None,
            answer,
            generation,
            searches=False,
            continued_from=before,
            was=was,
        )


def make(user: User, command: TurnCommand) -> Turn:
    """Save the turn; idempotent by request ID."""
    if taken := _find_by_request_id(user, command.id):
        return taken
    actions = {Send: send, Edit: edit, Regenerate: regenerate, Continue: continue_answer}
    try:
        turn: Turn = actions[type(command)](user, command)  # type: ignore[operator]
    except (IntegrityError, Busy):
        # The same request arrived concurrently on another socket and was first.
        if taken := _find_by_request_id(user, command.id):
            return taken
        raise
    return turn


def turn_of(generation: Generation) -> Turn:
    """Return the turn that a saved generation belongs to."""
    answer = generation.message
    if answer is None:
        raise ValueError("a program's request has no turn")
    if answer.parent is not None:
        prefetch_related_objects([answer.parent], storage.PREFETCH)
    return Turn(answer.conversation, answer.parent, answer, generation, created=False)


def discard(turn: Turn) -> None:
    """Undo a turn that could not be queued: its sender still has the text.

    Concurrent changes to the conversation are kept.
    """
    if not turn.created:
        return
    with transaction.atomic():
        admission.withdraw(str(turn.generation.pk))
        if turn.user_message:
            storage.detach(turn.user_message, turn.conversation)
        if turn.continued_from is None:
            turn.generation.delete()  # it would outlive its message
        if turn.new_conversation:
            turn.conversation.delete()
            return
        if turn.was is not None:
            _restore(turn, turn.was)
        if turn.continued_from is not None:
            turn.generation.delete()
            turn.continued_from.message = turn.answer
            turn.continued_from.save(update_fields=["message"])
            return
        (turn.user_message or turn.answer).delete()


def _restore(turn: Turn, was: Fields) -> None:
    rows = Conversation.objects.filter(pk=turn.conversation.pk)
    rows.filter(head=turn.answer).update(head=was.head_id)
    rows.filter(updated_at=turn.conversation.updated_at).update(
        updated_at=was.updated_at, keep_latest=was.keep_latest
    )


def admitted(turn: Turn) -> Admitted:
    """Return the queue's request for this turn within its owner's policy; see `admission.admit`."""
    model = catalogue.installed(turn.generation.model)
    return admission.admit(_request(turn, model), context=catalogue.context(model))


def queued_request(turn: Turn) -> QueuedRequest:
    """Return the queue's request for this turn, without its owner's policy."""
    return _request(turn, catalogue.installed(turn.generation.model))


def _request(turn: Turn, model: ModelName | None) -> QueuedRequest:
    if turn.answer.parent is None:
        raise ValueError("an answer has a question")
    said = prompt.build(turn.answer.parent)
    early = sum(message.role == "user" for message in said) <= _TITLE_TRIALS
    untitled = turn.conversation.untitled and current().titles and early
    said = knowledge.augment(said, turn.answer, turn.generation)
    request = request_for(turn.generation, said, model, keep_latest=turn.conversation.keep_latest)
    return msgspec.structs.replace(
        request,
        resume_text=turn.answer.content,
        title_for=str(turn.conversation.pk) if untitled else "",
    )


def request_for(
    generation: Generation,
    said: tuple[ChatMessage, ...],
    model: ModelName | None,
    *,
    keep_latest: bool,
) -> QueuedRequest:
    """Return the queue's request for a saved generation and the messages ``said`` of its branch."""
    request = custom.apply(
        custom.of(model) if model else custom.Configuration(),
        said,
        generation.params,
        defaults=_limits(model),
        system=current().system_prompt,
        prompt=PromptOptions(overflow="keep_latest" if keep_latest else "error"),
        preset=assistants.preset(generation.assistant),
    )
    return QueuedRequest(
        id=str(generation.pk),
        owner=str(generation.owner_id),
        model=generation.model,
        messages=request.messages,
        queued_at=generation.queued_at.timestamp(),
        params=request.params,
        options=request.options,
    )


def _limits(model: ModelName | None) -> dict[str, Any]:
    """Return the fields of `SamplingParams` that bound an unattended answer."""
    longest = (model.answer_tokens if model else None) or settings.ENV.answer_tokens
    return {"stop_repetition": True} | ({"max_tokens": longest} if longest else {})


def _checked(content: str, *, may_be_empty: bool = False) -> str:
    # PostgreSQL can't store NUL in text, and no model needs it.
    content = content.replace("\x00", "")
    if not content.strip() and not may_be_empty:
        raise EmptyMessage
    limit = settings.ENV.max_message_chars
    if len(content) > limit:
        raise MessageTooLong(length=len(content), limit=limit)
    return content


def _find_by_request_id(user: User, request_id: str) -> Turn | None:
    generation = (
        Generation.objects.of(user)
        .filter(request_id=request_id)
        .exclude(message=None)
        .select_related("message__conversation", "message__parent", "assistant")
        .first()
    )
    return None if generation is None else turn_of(generation)


def _conversation(user: User, id: str) -> Conversation:
    own = Conversation.objects.of(user).annotate(
        searches=knowledge.searches("chat_conversation.id")
    )
    found = own.filter(pk=id).first()
    if found is None:
        raise ConversationNotFound
    return found


def _searches(fetched: Conversation | Message) -> bool:
    """Return whether documents are searched in a fetched conversation, or that of a message."""
    found: bool = fetched.searches  # type: ignore[union-attr]  # annotated
    return found


def _message(user: User, id: str, role: str) -> Message:
    found = (
        Message.objects.of(user)
        .filter(pk=id, role=role)
        .select_related("conversation", "parent")
        .annotate(searches=knowledge.searches("chat_message.conversation_id"))
        .first()
    )
    if found is None:
        raise MessageNotFound
    return found


def _parent(conversation: Conversation, id: str | None) -> Message | None:
    """Return the answer that a new message follows. Raises `Busy` while it is being generated."""
    if id is None:
        return None
    parent = conversation.messages.filter(pk=id, role=Message.Role.ASSISTANT).first()
    if parent is None:
        raise MessageNotFound
    if Generation.objects.open().filter(message=parent).exists():
        raise Busy
    return parent


def _queue_answer(
    user: User,
    conversation: Conversation,
    question: Message,
    command: Send | Edit | Regenerate,
    *,
    new: Message | None,
    attachments: Sequence[Attachment] = (),
    began: bool = False,
    searches: bool = False,
) -> Turn:
    assistant = assistants.find(user, command.assistant)
    model = assistant.model if assistant else command.model
    found = catalogue.find(model, user)
    if attachments and not isinstance(command, Regenerate):
        sent = selection.choose(attachments, command.selections, catalogue.context(found))
        selection.save(question, sent)
        searches = searches or "" in sent.values()
    answer = Message.objects.create(
        id=uuid.uuid4(), conversation=conversation, parent=question, role=Message.Role.ASSISTANT
    )
    generation = Generation.objects.create(
        owner=user,
        message=answer,
        state=GenerationState.QUEUED,
        request_id=command.id,
        model=model,
        assistant=assistant,
        params=msgspec.to_builtins(command.params),
    )
    was = _touch(conversation, answer, command.keep_latest)
    if new is not None:
        prefetch_related_objects([new], storage.PREFETCH)
    return Turn(
        conversation,
        new,
        answer,
        generation,
        searches=searches or knowledge.of_assistant(assistant),
        new_conversation=began,
        was=was,
    )


def _touch(conversation: Conversation, head: Message, keep_latest: bool | None = None) -> Fields:
    """Move the conversation to the top of the list with ``head`` shown; return its old fields."""
    was = Fields(conversation.head_id, conversation.updated_at, conversation.keep_latest)
    if keep_latest is not None:
        conversation.keep_latest = keep_latest
    conversation.head = head
    conversation.updated_at = timezone.now()
    conversation.save(update_fields=["head", "updated_at", "keep_latest"])
    return was
