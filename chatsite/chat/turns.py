"""One chat turn in SQL: a user message, the answer to come, and its queued generation.

All functions here are synchronous, run in one short transaction, and start from the person.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.chat import prompt, titles
from chatsite.chat.assistants import store as assistants
from chatsite.chat.attachments import store
from chatsite.chat.models import OPEN_STATES, Conversation, Generation, GenerationState, Message
from chatsite.chat.protocol import Continue, Edit, Making, Regenerate, Send
from chatsite.dispatch.messages import Job
from chatsite.engine.messages import PromptOptions
from chatsite.errors import Busy, EmptyMessage, MessageTooLong, NotFound, NothingToContinue
from chatsite.search import index
from models_admin import catalogue, custom

# A title that could not be made after so many questions is not worth more trials.
_TITLE_TRIALS = 3


@dataclass(frozen=True)
class Turn:
    """``user_message`` is None for a regeneration. ``made`` is False when this request had
    been taken before; ``began`` is True when the conversation is new. ``before`` is the earlier
    generation of an answer that is continued."""

    conversation: Conversation
    user_message: Message | None
    answer: Message
    generation: Generation
    made: bool = True
    began: bool = False
    before: Generation | None = None


def send(user: User, command: Send) -> Turn:
    attachments = store.take(user, command.attachments)
    content = _checked(command.content, may_be_empty=bool(attachments))
    with transaction.atomic():
        if command.conversation is None:
            title = titles.first_line(content) or attachments[0].name
            conversation = Conversation.objects.create(
                owner=user, title=title[:200], untitled=titles.pays(content)
            )
            index.put_title(conversation)
            parent = None
        else:
            conversation = _conversation(user, command.conversation)
            parent = _parent(conversation, command.parent)
        message = Message.objects.create(
            conversation=conversation, parent=parent, role=Message.Role.USER, content=content
        )
        index.put(message, user.pk)
        store.give(message, attachments)
        return _queue_answer(
            user, conversation, message, command, new=message, began=command.conversation is None
        )


def edit(user: User, command: Edit) -> Turn:
    with transaction.atomic():
        edited = _message(user, command.message, Message.Role.USER)
        attachments = (
            list(edited.attachments.all())
            if command.attachments is None
            else store.take(user, command.attachments)
        )
        content = _checked(command.content, may_be_empty=bool(attachments))
        message = Message.objects.create(
            conversation=edited.conversation,
            parent_id=edited.parent_id,
            role=Message.Role.USER,
            content=content,
        )
        index.put(message, user.pk)
        store.give(message, attachments)
        return _queue_answer(user, edited.conversation, message, command, new=message)


def regenerate(user: User, command: Regenerate) -> Turn:
    with transaction.atomic():
        answer = _message(user, command.message, Message.Role.ASSISTANT)
        if answer.parent is None:
            raise NotFound
        return _queue_answer(user, answer.conversation, answer.parent, command, new=None)


def go_on(user: User, command: Continue) -> Turn:
    """A new generation for the same answer; what the earlier one measured stays, without it."""
    with transaction.atomic():
        answer = _message(user, command.message, Message.Role.ASSISTANT)
        before = Generation.objects.filter(message=answer).first()
        if before is None or answer.parent is None:
            raise NotFound
        if before.state in OPEN_STATES:
            raise Busy
        if not before.was_cut or not answer.content or answer.children.exists():
            raise NothingToContinue
        catalogue.resolve(before.model)
        # Two at once: the later one waits here for the first, and then changes no row.
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
        _touch(answer.conversation, answer)
        return Turn(answer.conversation, None, answer, generation, before=before)


def make(user: User, command: Making) -> Turn:
    """Saves the turn once, however often the same request comes."""
    if taken := _taken(user, command.id):
        return taken
    actions = {Send: send, Edit: edit, Regenerate: regenerate, Continue: go_on}
    try:
        turn: Turn = actions[type(command)](user, command)  # type: ignore[operator]
    except (IntegrityError, Busy):
        # The same request on another socket at the same time was first.
        if taken := _taken(user, command.id):
            return taken
        raise
    return turn


def turn_of(generation: Generation) -> Turn:
    """The turn that a saved generation belongs to."""
    answer = generation.message
    if answer is None:
        raise ValueError("a program's request has no turn")
    if answer.parent is not None:
        prefetch_related_objects([answer.parent], store.GIVEN)
    return Turn(answer.conversation, answer.parent, answer, generation, made=False)


def discard(turn: Turn) -> None:
    """Takes back a turn that could not be queued: its text is still with the sender."""
    if not turn.made:
        return
    with transaction.atomic():
        if turn.user_message:
            store.take_back(turn.user_message, turn.conversation)
        if turn.began:
            turn.conversation.delete()
            return
        if turn.before is not None:
            turn.generation.delete()
            turn.before.message = turn.answer
            turn.before.save(update_fields=["message"])
            return
        (turn.user_message or turn.answer).delete()
        Conversation.objects.filter(pk=turn.conversation.pk).update(
            head=turn.user_message.parent_id if turn.user_message else turn.answer.parent_id
        )


def job(turn: Turn) -> Job:
    """What the queue carries for this turn."""
    if turn.answer.parent is None:
        raise ValueError("an answer has a question")
    said = prompt.build(turn.answer.parent)
    early = sum(message.role == "user" for message in said) <= _TITLE_TRIALS
    untitled = turn.conversation.untitled and settings.ENV.titles and early
    request = custom.apply(
        custom.configuration(turn.generation.model),
        said,
        turn.generation.params,
        system=settings.ENV.system_prompt,
        prompt=PromptOptions(overflow="keep_latest" if turn.conversation.keep_latest else "error"),
        preset=assistants.preset(turn.generation.assistant),
    )
    return Job(
        id=str(turn.generation.pk),
        owner=str(turn.generation.owner_id),
        model=turn.generation.model,
        messages=request.messages,
        queued_at=turn.generation.queued_at.timestamp(),
        params=request.params,
        options=request.options,
        written=turn.answer.content,
        untitled=str(turn.conversation.pk) if untitled else "",
    )


def _checked(content: str, *, may_be_empty: bool = False) -> str:
    # PostgreSQL can't hold NUL in text, and no model has a use for it.
    content = content.replace("\x00", "")
    if not content.strip() and not may_be_empty:
        raise EmptyMessage
    limit = settings.ENV.max_message_chars
    if len(content) > limit:
        raise MessageTooLong(length=len(content), limit=limit)
    return content


def _taken(user: User, request_id: str) -> Turn | None:
    generation = (
        Generation.objects.of(user)
        .filter(request_id=request_id)
        .exclude(message=None)
        .select_related("message__conversation", "message__parent", "assistant")
        .first()
    )
    return None if generation is None else turn_of(generation)


def _conversation(user: User, id: str) -> Conversation:
    found = Conversation.objects.of(user).filter(pk=id).first()
    if found is None:
        raise NotFound
    return found


def _message(user: User, id: str, role: str) -> Message:
    found = (
        Message.objects.of(user)
        .filter(pk=id, role=role)
        .select_related("conversation", "parent")
        .first()
    )
    if found is None:
        raise NotFound
    return found


def _parent(conversation: Conversation, id: str | None) -> Message | None:
    """The answer that a new message follows; it must have been written."""
    if id is None:
        return None
    parent = conversation.messages.filter(pk=id, role=Message.Role.ASSISTANT).first()
    if parent is None:
        raise NotFound
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
    began: bool = False,
) -> Turn:
    assistant = assistants.find(user, command.assistant)
    model = assistant.model if assistant else command.model
    catalogue.resolve(model)
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
    if command.keep_latest is not None:
        conversation.keep_latest = command.keep_latest
    _touch(conversation, answer)
    if new is not None:
        prefetch_related_objects([new], store.GIVEN)
    return Turn(conversation, new, answer, generation, began=began)


def _touch(conversation: Conversation, head: Message) -> None:
    conversation.head = head
    conversation.updated_at = timezone.now()
    conversation.save(update_fields=["head", "updated_at", "keep_latest"])
