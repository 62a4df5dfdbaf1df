"""Attachments in SQL: files that come in pieces, and which messages have which."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Prefetch, Q, Sum
from django.db.models.functions import Length

from chatsite.accounts.models import User
from chatsite.chat.attachments.errors import AttachmentGone, FileTooLarge, TooManyAttachments
from chatsite.chat.attachments.formats import Document
from chatsite.chat.attachments.models import Attachment, Piece
from chatsite.chat.models import Conversation, Message
from chatsite.errors import BadRequest

# A request's whole body is held in memory by the web server.
PIECE_BYTES: Final = 512 * 1024
PER_MESSAGE: Final = 10
_UNSENT_MOST: Final = 50
# Files of one person on their way at once, in sizes of the largest one.
_COMING_MOST: Final = 4
_NAME_MOST: Final = 255
# Control characters, and what turns the direction of the text around it.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


# Prefetches what `serialize` tells of a message's attachments, without their texts.
GIVEN: Final = Prefetch("attachments", Attachment.objects.defer("text"), to_attr="given")


def clean_name(name: str) -> str:
    """What a file is called, without folders and without characters that mislead."""
    last = re.split(r"[/\\]", _UNFIT.sub("", name))[-1].strip()
    return last[-_NAME_MOST:] or "file"


def begin(user: User, name: str, size: int) -> Attachment:
    limit = settings.ENV.attachment_mb
    if size > limit * 1_000_000:
        raise FileTooLarge(limit=limit)
    unsent = Attachment.objects.of(user).filter(conversation=None)
    coming = unsent.filter(ready=False).aggregate(size=Sum("size"))["size"] or 0
    if unsent.count() >= _UNSENT_MOST or coming + size > _COMING_MOST * limit * 1_000_000:
        raise TooManyAttachments
    return Attachment.objects.create(owner=user, name=clean_name(name), size=size)


def of_user(user: User, id: uuid.UUID) -> Attachment:
    """Raises `AttachmentGone`, also for somebody else's."""
    found = Attachment.objects.of(user).filter(pk=id).first()
    if found is None:
        raise AttachmentGone
    return found


def add_piece(user: User, id: uuid.UUID, number: int, data: bytes) -> None:
    """The same piece may come twice. Raises `BadRequest` for what doesn't fit its file."""
    with transaction.atomic():
        found = of_user(user, id)
        pieces = Piece.objects.filter(attachment=found)
        others = pieces.exclude(number=number)
        held = others.aggregate(held=Sum(Length("data")))["held"] or 0
        if found.ready or not data or number > others.count() or held + len(data) > found.size:
            raise BadRequest
        pieces.update_or_create(attachment=found, number=number, defaults={"data": data})


def assembled(user: User, id: uuid.UUID) -> tuple[str, bytes]:
    """The whole file and its name. Raises `BadRequest` while pieces are missing."""
    found = of_user(user, id)
    rows = found.pieces.order_by("number").values_list("data", flat=True)
    data = b"".join(bytes(part) for part in rows)
    if found.ready or len(data) != found.size:
        raise BadRequest
    return found.name, data


def finish(user: User, id: uuid.UUID, document: Document, tokens: int | None) -> Attachment:
    with transaction.atomic():
        found = of_user(user, id)
        found.pieces.all().delete()
        found.kind, found.pages, found.text = document.kind, document.pages, document.text
        found.characters, found.tokens, found.ready = len(document.text), tokens, True
        found.save()
    return found


def remove(user: User, id: uuid.UUID) -> None:
    """Only what was not sent: a message that is there keeps what the model was given."""
    Attachment.objects.of(user).filter(pk=id, conversation=None).delete()


def take(user: User, ids: Sequence[str]) -> list[Attachment]:
    """Those that a message is sent with, in that order. Raises `AttachmentGone`."""
    found = Attachment.objects.of(user).filter(ready=True).in_bulk([uuid.UUID(id) for id in ids])
    if len(found) != len(set(ids)):
        raise AttachmentGone
    return list(found.values())


def give(message: Message, attachments: Iterable[Attachment]) -> None:
    """Binds them to the message and to its conversation."""
    given = list(attachments)
    if not given:
        return
    # Another page may have sent one meanwhile.
    free = Q(conversation=None) | Q(conversation=message.conversation_id)
    bound = Attachment.objects.filter(free, pk__in=[one.pk for one in given])
    if bound.update(conversation=message.conversation_id) != len(given):
        raise AttachmentGone
    message.attachments.set(given)


def take_back(message: Message, conversation: Conversation) -> None:
    """What came with a message that is discarded is with its sender again."""
    Attachment.objects.filter(messages=message, conversation=conversation).exclude(
        messages__in=conversation.messages.exclude(pk=message.pk)
    ).update(conversation=None)


def of_messages(conversation: uuid.UUID) -> dict[uuid.UUID, list[Attachment]]:
    """All of a conversation, texts included, by message."""
    rows = Attachment.messages.through.objects.filter(attachment__conversation=conversation)
    links = list(rows.values_list("message_id", "attachment_id"))
    if not links:
        return {}
    found = Attachment.objects.filter(conversation=conversation).in_bulk()
    by_message: dict[uuid.UUID, list[Attachment]] = {}
    for message, attachment in links:
        if attachment in found:
            by_message.setdefault(message, []).append(found[attachment])
    for several in by_message.values():
        several.sort(key=lambda one: (one.created_at, one.pk))
    return by_message


def as_text(attachment: Attachment) -> str:
    return framed(attachment.pk, attachment.name, attachment.text)


def framed(id: uuid.UUID, name: str, text: str) -> str:
    """A document as the model reads it, in a frame that its own text can't end: whoever wrote it
    did not know the number."""
    number = str(id)[:8]
    quoted = name.replace('"', "'")
    return f'<document {number} name="{quoted}">\n{text}\n</document {number}>'


def serialize(item: Attachment) -> dict[str, Any]:
    return {
        "id": str(item.id),
        "name": item.name,
        "size": item.size,
        "kind": item.kind,
        "pages": item.pages,
        "characters": item.characters,
        "tokens": item.tokens,
    }
