"""Attachments in SQL: uploads in pieces, and the attachments of messages."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Prefetch, Q, Sum
from django.db.models.functions import Length

from chatsite.accounts.models import User
from chatsite.conversations import schema
from chatsite.conversations.attachments.errors import AttachmentGone, TooManyAttachments
from chatsite.conversations.attachments.models import Attachment, Piece, Selection
from chatsite.conversations.attachments.selection import selected_text, sending
from chatsite.conversations.models import Conversation, Message
from chatsite.documents import notes
from chatsite.documents.errors import FileTooLarge
from chatsite.documents.formats import Document
from chatsite.errors import BadRequest

# The web server holds a request's whole body in memory.
PIECE_BYTES: Final = 512 * 1024
PER_MESSAGE: Final = 10
_UNSENT_MOST: Final = 50
# Concurrent uploads of one user, in multiples of the largest file.
_COMING_MOST: Final = 4
_NAME_MOST: Final = 255
# Control characters, and those that change the direction of the surrounding text.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


# Prefetches what `serialize` returns of a message's attachments, without their texts.
PREFETCH: Final = Prefetch(
    "attachments",
    Attachment.objects.defer("text").prefetch_related("selections"),
    to_attr="given",
)


def clean_name(name: str) -> str:
    """Return a file's name without folders and without misleading characters."""
    last = re.split(r"[/\\]", _UNFIT.sub("", name))[-1].strip()
    return last[-_NAME_MOST:] or "file"


def start_upload(user: User, name: str, size: int) -> Attachment:
    limit = settings.ENV.attachment_mb
    if size > limit * 1_000_000:
        raise FileTooLarge(limit=limit)
    unsent = Attachment.objects.of(user).filter(conversation=None)
    coming = unsent.filter(ready=False).aggregate(size=Sum("size"))["size"] or 0
    if unsent.count() >= _UNSENT_MOST or coming + size > _COMING_MOST * limit * 1_000_000:
        raise TooManyAttachments
    return Attachment.objects.create(owner=user, name=clean_name(name), size=size)


def of_user(user: User, id: uuid.UUID) -> Attachment:
    """Return a user's attachment. Raises `AttachmentGone`, also for those of other users."""
    found = Attachment.objects.of(user).filter(pk=id).first()
    if found is None:
        raise AttachmentGone
    return found


def add_piece(user: User, id: uuid.UUID, number: int, data: bytes) -> None:
    """Save a piece; idempotent. Raises `BadRequest` for a piece that doesn't fit its file."""
    with transaction.atomic():
        found = of_user(user, id)
        pieces = Piece.objects.filter(attachment=found)
        others = pieces.exclude(number=number)
        held = others.aggregate(held=Sum(Length("data")))["held"] or 0
        if found.ready or not data or number > others.count() or held + len(data) > found.size:
            raise BadRequest
        pieces.update_or_create(attachment=found, number=number, defaults={"data": data})


def assembled(user: User, id: uuid.UUID) -> tuple[str, bytes]:
    """Return the file's name and content. Raises `BadRequest` while pieces are missing."""
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
        found.notes = list(document.notes)
        found.page_starts = list(document.page_starts)
        found.characters, found.tokens, found.ready = len(document.text), tokens, True
        found.save()
    return found


def remove(user: User, id: uuid.UUID) -> None:
    """Delete an attachment that was not sent; messages keep theirs."""
    Attachment.objects.of(user).filter(pk=id, conversation=None).delete()


def ready_attachments(user: User, ids: Sequence[str]) -> list[Attachment]:
    """Return the attachments for a message, in that order. Raises `AttachmentGone`."""
    found = Attachment.objects.of(user).filter(ready=True).in_bulk([uuid.UUID(id) for id in ids])
    if len(found) != len(set(ids)):
        raise AttachmentGone
    return list(found.values())


def attach(message: Message, attachments: Iterable[Attachment]) -> None:
    """Bind attachments to a message and its conversation. Raises `AttachmentGone`."""
    given = list(attachments)
    if not given:
        return
    # Another page may have sent one of them meanwhile.
    free = Q(conversation=None) | Q(conversation=message.conversation_id)
    bound = Attachment.objects.filter(free, pk__in=[one.pk for one in given])
    if bound.update(conversation=message.conversation_id) != len(given):
        raise AttachmentGone
    message.attachments.set(given)


def detach(message: Message, conversation: Conversation) -> None:
    """Release the attachments of a message that is discarded: its sender still has them."""
    Attachment.objects.filter(messages=message, conversation=conversation).exclude(
        messages__in=conversation.messages.exclude(pk=message.pk)
    ).update(conversation=None)


def of_messages(conversation: uuid.UUID) -> dict[uuid.UUID, list[tuple[Attachment, str | None]]]:
    """Return all attachments of a conversation, by message, with what is sent of them.

    That is None for all of it, or `Selection.pages`. The text of those that are sent with no
    message is deferred.
    """
    rows = Attachment.messages.through.objects.filter(attachment__conversation=conversation)
    links = list(rows.values_list("message_id", "attachment_id"))
    if not links:
        return {}
    selected = {
        (message, attachment): pages
        for message, attachment, pages in Selection.objects.filter(
            message__conversation=conversation
        ).values_list("message_id", "attachment_id", "pages")
    }
    read = {link[1] for link in links if selected.get(link) != ""}
    found = Attachment.objects.filter(pk__in=read).in_bulk()
    others = {attachment for _, attachment in links if attachment not in found}
    if others:
        found |= Attachment.objects.filter(pk__in=others).defer("text").in_bulk()
    by_message: dict[uuid.UUID, list[tuple[Attachment, str | None]]] = {}
    for link in links:
        if link[1] in found:
            sent = (found[link[1]], selected.get(link))
            by_message.setdefault(link[0], []).append(sent)
    for several in by_message.values():
        several.sort(key=lambda one: (one[0].created_at, one[0].pk))
    return by_message


def as_text(attachment: Attachment, pages: str | None = None) -> str:
    """Return what the model reads of an attachment; ``pages`` is as in `of_messages`."""
    text = attachment.text if pages is None else selected_text(attachment, pages)
    return framed(attachment.pk, attachment.name, text)


def framed(id: uuid.UUID, name: str, text: str) -> str:
    """Return a document as the model reads it, in a frame that its own text can't close.

    The author of the text does not know the number.
    """
    number = str(id)[:8]
    quoted = name.replace('"', "'")
    return f'<document {number} name="{quoted}">\n{text}\n</document {number}>'


def serialize(item: Attachment, message: uuid.UUID | None = None) -> schema.Attachment:
    """Return the attachment as the page gets it, with what ``message`` sends of it."""
    pages = None
    if message is not None:
        own = (one.pages for one in item.selections.all() if one.message_id == message)
        pages = next(own, None)
    return schema.Attachment(
        id=str(item.id),
        name=item.name,
        size=item.size,
        kind=item.kind,
        pages=item.pages,
        characters=item.characters,
        tokens=item.tokens,
        notes=notes.worded(item.notes),
        send=sending(pages),
        send_pages=pages or "",
    )
