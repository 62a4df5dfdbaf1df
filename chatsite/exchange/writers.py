"""Conversations as files: Markdown of the branch that is shown, JSON of the whole tree."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from django.utils import timezone
from django.utils.translation import gettext as _

from chatsite.accounts.models import User
from chatsite.chat import prompt, serialize
from chatsite.chat.attachments import store
from chatsite.chat.attachments.models import Attachment
from chatsite.chat.models import Conversation, Message

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')


def as_dict(conversation: Conversation) -> dict[str, Any]:
    """What `readers.read` takes back."""
    shape = serialize.conversation(conversation)
    return {
        **{name: shape[name] for name in _KEPT},
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
        documents = store.of_messages(conversation.pk)
        for message in _messages(conversation):
            given = documents.get(message.pk, ())
            if message.pk in shown and (message.content or given):
                parts.append(f"## {_speaker(message)}")
                parts += [f"### {one.name}\n\n{_fenced(one.text)}" for one in given]
                parts.append(_said(message))
    parts = [part for part in parts if part]
    return "\n\n".join(parts) + "\n"


def file_name(conversation: Conversation, ending: str) -> str:
    name = _UNSAFE.sub(" ", conversation.title).strip(". ")[:80]
    return f"{name or conversation.pk}.{ending}"


def write_all(user: User, target: IO[bytes]) -> None:
    """A ZIP file of all conversations, one of them in memory at a time."""
    own = Conversation.objects.of(user).select_related("folder", "head").order_by("-updated_at")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("conversations.json", "w", force_zip64=True) as file:
            for piece in _json(own.iterator(100)):
                file.write(piece.encode())
        for number, conversation in enumerate(own.iterator(100), 1):
            name = f"markdown/{number:05} {file_name(conversation, 'md')}"
            archive.writestr(name, as_markdown(conversation))


def _json(conversations: Iterator[Conversation]) -> Iterator[str]:
    head = {"format": "chatsite", "version": 1, "exported_at": timezone.now().isoformat()}
    yield json.dumps(head)[:-1] + ', "conversations": ['
    comma = ""
    for conversation in conversations:
        yield comma + "\n" + json.dumps(as_dict(conversation), ensure_ascii=False)
        comma = ","
    yield "\n]}\n"


def _messages(conversation: Conversation) -> list[Message]:
    found = conversation.messages.select_related("generation").prefetch_related(store.GIVEN)
    return list(found.order_by("created_at", "id"))


def _message(message: Message) -> dict[str, Any]:
    shape = serialize.message(message)
    made = shape["generation"]
    return {
        **{name: shape[name] for name in ("id", "parent", "role", "content", "created_at")},
        "attachments": [one["id"] for one in shape["attachments"]],
        "model": made["model"] if made else None,
        "state": made["state"] if made else None,
        "syntax": made["syntax"] if made else None,
    }


def _document(item: Attachment) -> dict[str, Any]:
    shape = store.serialize(item)
    return {name: shape[name] for name in ("id", "name", "size", "kind", "pages")} | {
        "text": item.text
    }


def _fenced(text: str) -> str:
    """In a fence that is longer than any within."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _said(message: Message) -> str:
    """As the page shows it, with the reasoning folded away."""
    syntax = message.generation.syntax if hasattr(message, "generation") else None
    return prompt.without_reasoning(message.content, syntax)


def _speaker(message: Message) -> str:
    if message.role == Message.Role.USER:
        return _("You")
    model = message.generation.model if hasattr(message, "generation") else ""
    answer = _("Answer")
    return f"{answer} ({model})" if model else answer
