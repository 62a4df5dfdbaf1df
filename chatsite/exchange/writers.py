"""Conversations as files: Markdown of the shown branch, JSON of the whole tree."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import msgspec
from django.utils import timezone
from django.utils.translation import gettext as _

from chatsite.accounts.models import User
from chatsite.conversations import prompt, serialize
from chatsite.conversations.attachments import storage
from chatsite.conversations.attachments.models import Attachment
from chatsite.conversations.models import Conversation, Message

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')


def as_dict(conversation: Conversation) -> dict[str, Any]:
    """Return the form that `readers.read` imports."""
    shape = serialize.conversation(conversation)
    return {
        **{name: getattr(shape, name) for name in _KEPT},
        "folder": conversation.folder.name if conversation.folder else None,
        "documents": [_document(one) for one in conversation.attachments.all()],
        "messages": [_message(message) for message in _messages(conversation)],
    }


_KEPT = ("id", "title", "head", "pinned", "archived", "created_at", "updated_at")


def as_markdown(conversation: Conversation) -> str:
    title = conversation.title or _("Untitled")
    parts = [f"# {title}"]
    if conversation.head:
        shown = {message.pk for message in prompt.branch(conversation.head)}
        documents = storage.of_messages(conversation.pk)
        for message in _messages(conversation):
            given = documents.get(message.pk, ())
            if message.pk in shown and (message.content or given):
                parts.append(f"## {_speaker(message)}")
                parts += [f"### {one.name}\n\n{fenced(one.text)}" for one, _sent in given]
                parts.append(_said(message))
    parts = [part for part in parts if part]
    return "\n\n".join(parts) + "\n"


def file_name(conversation: Conversation, ending: str) -> str:
    return f"{safe_name(conversation.title) or conversation.pk}.{ending}"


def safe_name(title: str) -> str:
    """Return a title as a part of a file name, perhaps empty."""
    return _UNSAFE.sub(" ", title).strip(". ")[:80]


def write_all(user: User, target: IO[bytes]) -> None:
    """Write a ZIP file of all conversations."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for _file in write_conversations(user, archive):
            pass


def write_conversations(user: User, archive: zipfile.ZipFile) -> Iterator[None]:
    """Write all conversations, with one of them in memory at a time, as JSON and as Markdown.

    Yields after each conversation of each form, for progress.
    """
    own = Conversation.objects.of(user).select_related("folder", "head").order_by("-updated_at")
    with archive.open("conversations.json", "w", force_zip64=True) as file:
        for piece in _json(own.iterator(100)):
            file.write(piece.encode())
            yield
    for number, conversation in enumerate(own.iterator(100), 1):
        name = f"markdown/{number:05} {file_name(conversation, 'md')}"
        archive.writestr(name, as_markdown(conversation))
        yield


def _json(conversations: Iterator[Conversation]) -> Iterator[str]:
    head = {"format": "chatsite", "version": 1, "exported_at": timezone.now().isoformat()}
    yield json.dumps(head)[:-1] + ', "conversations": ['
    comma = ""
    for conversation in conversations:
        yield comma + "\n" + json.dumps(as_dict(conversation), ensure_ascii=False)
        comma = ","
    yield "\n]}\n"


def _messages(conversation: Conversation) -> list[Message]:
    found = conversation.messages.select_related("generation").prefetch_related(storage.PREFETCH)
    return list(found.order_by("created_at", "id"))


def _message(message: Message) -> dict[str, Any]:
    shape = serialize.message(message)
    made = shape.generation
    return {
        "id": shape.id,
        "parent": shape.parent,
        "role": shape.role,
        "content": shape.content,
        "created_at": shape.created_at,
        "attachments": [one.id for one in shape.attachments],
        "model": made.model if made else None,
        "state": made.state if made else None,
        "syntax": msgspec.to_builtins(made.syntax) if made else None,
    }


def _document(item: Attachment) -> dict[str, Any]:
    shape = storage.serialize(item)
    kept = {name: getattr(shape, name) for name in ("id", "name", "size", "kind", "pages")}
    return kept | {"text": item.text}


def fenced(text: str) -> str:
    """Return the text in a code fence that is longer than any inside it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _said(message: Message) -> str:
    """Return the text of a message as the page shows it, without the collapsed reasoning."""
    syntax = message.generation.syntax if hasattr(message, "generation") else None
    return prompt.without_reasoning(message.content, syntax)


def _speaker(message: Message) -> str:
    if message.role == Message.Role.USER:
        return _("You")
    model = message.generation.model if hasattr(message, "generation") else ""
    answer = _("Answer")
    return f"{answer} ({model})" if model else answer
