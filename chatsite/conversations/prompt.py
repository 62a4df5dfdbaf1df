"""The messages that a model gets for a branch of the tree."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

import msgspec

from chatsite.conversations.attachments import storage
from chatsite.conversations.models import Generation, Message
from chatsite.engine.contract.messages import ChatMessage, OutputSyntax, Role
from chatsite.engine.prompting.output import split
from chatsite.site_settings import current


def opening() -> list[ChatMessage]:
    """Return the messages that every conversation begins with."""
    system = current().system_prompt
    return [ChatMessage("system", system)] if system else []


def branch(leaf: Message) -> list[Message]:
    """Return ``leaf`` and its ancestors, oldest first, in a constant number of queries."""
    parents = dict(
        Message.objects.filter(conversation=leaf.conversation_id).values_list("id", "parent_id")
    )
    path: list[uuid.UUID] = []
    at: uuid.UUID | None = leaf.pk
    while at is not None:
        path.append(at)
        at = parents.get(at)
    found = Message.objects.in_bulk(path)
    return [found[id] for id in reversed(path)]


def build(leaf: Message) -> tuple[ChatMessage, ...]:
    """Return the messages up to the user message ``leaf``.

    The administrator's are put before them in `models_admin.config.custom.apply`. Documents
    precede the message that they were attached to. The reasoning of earlier answers is left out:
    templates that keep it would spend the context on it. Answers without text (failed, or stopped
    immediately) are left out, and adjacent messages of one role are joined: many templates refuse
    two user messages in a row.
    """
    attached = storage.of_messages(leaf.conversation_id)
    syntaxes = dict(
        Generation.objects.filter(message__conversation=leaf.conversation_id).values_list(
            "message_id", "syntax"
        )
    )

    def texts() -> Iterator[tuple[Role, str]]:
        for message in branch(leaf):
            documents = [storage.as_text(*one) for one in attached.get(message.pk, ())]
            text = without_reasoning(message.content, syntaxes.get(message.pk))
            role: Role = Message.Role(message.role).value  # type: ignore[assignment]
            yield role, "\n\n".join(filter(None, (*documents, text)))

    return joined(texts())


def joined(texts: Iterable[tuple[Role, str]]) -> tuple[ChatMessage, ...]:
    """Return (role, text) pairs as a prompt, without empty ones and with adjacent ones joined."""
    prompt: list[ChatMessage] = []
    for role, content in texts:
        if not content:
            continue
        if prompt and prompt[-1].role == role:
            prompt[-1] = ChatMessage(role, f"{prompt[-1].content}\n\n{content}")
        else:
            prompt.append(ChatMessage(role, content))
    return tuple(prompt)


def without_reasoning(text: str, syntax: dict[str, str] | None) -> str:
    """Return the content of an answer without its reasoning; tool calls are kept verbatim.

    ``syntax`` is that of its generation, None for messages that are not answers.
    """
    if not syntax:
        return text
    _, content, _ = split(text, msgspec.convert(syntax, OutputSyntax), tools=False)
    return content
