"""Saving imported conversations: each completely or not at all, and none twice."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import msgspec
from django.db import IntegrityError, transaction

from chatsite.accounts.models import User
from chatsite.conversations.attachments.models import Attachment
from chatsite.conversations.models import Conversation, Generation, GenerationState, Message
from chatsite.exchange.models import Origin
from chatsite.exchange.readers import read
from chatsite.exchange.tree import Chat, Unreadable, title
from chatsite.search import index


class Refusal(TypedDict):
    title: str
    reason: str


class ImportReport(TypedDict):
    """The numbers of imported and of already known conversations, and the refused ones.

    ``left_out`` counts parts of messages that are not supported (pictures, files, tools).
    """

    taken: int
    known: int
    refused: list[Refusal]
    left_out: int


def take(user: User, raws: list[Any]) -> ImportReport:
    """Import conversations; return a report."""
    taken, known, left_out = 0, 0, 0
    refused: list[Refusal] = []
    for raw in raws:
        try:
            chat = read(raw)
            new = _save(user, chat)
        except Unreadable as problem:
            name = title(raw.get("title")) if isinstance(raw, dict) else ""
            refused.append({"title": name, "reason": str(problem.reason)})
            continue
        taken += new
        known += not new
        left_out += chat.left_out if new else 0
    return {"taken": taken, "known": known, "refused": refused, "left_out": left_out}


def _save(user: User, chat: Chat) -> bool:
    """Save a conversation; False if it was imported before."""
    try:
        with transaction.atomic():
            if _is_there(user, chat):
                return False
            _write(user, chat)
    except IntegrityError:
        # A concurrent import in another tab was first.
        return False
    return True


def _is_there(user: User, chat: Chat) -> bool:
    origins = Origin.objects.of(user).filter(source=chat.source, key=chat.key)
    if found := origins.select_related("conversation").first():
        if found.conversation.deleted_at is None:
            return True
        # Deleted, and imported again: the deleted one is purged later, unless it must be kept.
        found.delete()
        return False
    try:
        own = uuid.UUID(chat.key) if chat.source == "chatsite" else None
    except ValueError:
        own = None
    return own is not None and Conversation.objects.of(user).filter(pk=own).exists()


def _write(user: User, chat: Chat) -> None:
    now = datetime.now(UTC)
    conversation = Conversation.objects.create(
        owner=user,
        title=chat.title,
        created_at=chat.created,
        updated_at=chat.updated,
        archived_at=now if chat.archived else None,
        pinned_at=None,
    )
    ids = {node.key: uuid.uuid4() for node in chat.nodes}
    messages: list[Message] = []
    generations: list[Generation] = []
    latest: dict[uuid.UUID | None, datetime] = {None: chat.created}
    for number, node in enumerate(chat.nodes):
        parent = ids[node.parent] if node.parent else None
        # Messages are ordered by time, which not every export has for all of them.
        moment = max(node.moment or latest[parent], latest[parent])
        moment += timedelta(microseconds=number % 1000 + 1)
        latest[ids[node.key]] = moment
        message = Message(
            id=ids[node.key],
            conversation=conversation,
            parent_id=parent,
            role=node.role or Message.Role.USER,
            content=node.content,
            created_at=moment,
        )
        messages.append(message)
        if node.role == "assistant":
            generations.append(
                Generation(
                    owner=user,
                    message=message,
                    state=GenerationState.DONE,
                    model=node.model,
                    syntax=msgspec.to_builtins(node.syntax),
                    finish_reason="stop",
                    queued_at=moment,
                    finished_at=moment,
                )
            )
    Message.objects.bulk_create(messages, batch_size=500)
    Generation.objects.bulk_create(generations, batch_size=500)
    _write_documents(user, chat, conversation, ids)
    conversation.head_id = ids[chat.head] if chat.head else messages[-1].pk
    conversation.save(update_fields=["head"])
    Origin.objects.create(owner=user, source=chat.source, key=chat.key, conversation=conversation)
    index.put_many([index.of_title(conversation)])
    for start in range(0, len(messages), 500):
        index.put_many(index.of_message(one, user.pk) for one in messages[start : start + 500])


def _write_documents(
    user: User, chat: Chat, conversation: Conversation, ids: dict[str, uuid.UUID]
) -> None:
    """Save the documents that messages refer to."""
    wanted = dict.fromkeys(key for node in chat.nodes for key in node.documents)
    rows = {
        key: Attachment(
            owner=user,
            conversation=conversation,
            name=one.name,
            size=one.size,
            kind=one.kind,
            pages=one.pages,
            text=one.text,
            characters=len(one.text),
            ready=True,
            created_at=chat.created + timedelta(microseconds=number),
        )
        for number, (key, one) in enumerate((key, chat.documents[key]) for key in wanted)
    }
    Attachment.objects.bulk_create(rows.values(), batch_size=50)
    links = Attachment.messages.through
    links.objects.bulk_create(
        [
            links(attachment=rows[key], message_id=ids[node.key])
            for node in chat.nodes
            for key in node.documents
        ],
        batch_size=500,
    )
