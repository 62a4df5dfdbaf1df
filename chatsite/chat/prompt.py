"""From a branch of the tree to the messages that a model sees."""

from __future__ import annotations

import uuid

import msgspec
from django.conf import settings

from chatsite.chat.attachments import store
from chatsite.chat.models import Generation, Message
from chatsite.engine.messages import ChatMessage, OutputSyntax, Role
from chatsite.engine.output import split


def opening() -> list[ChatMessage]:
    """What every conversation begins with."""
    system = settings.ENV.system_prompt
    return [ChatMessage("system", system)] if system else []


def branch(leaf: Message) -> list[Message]:
    """``leaf`` and all above it, oldest first, read in a few queries whatever the length."""
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
    """The messages up to the user message ``leaf``; the administrator's come before them in
    `models_admin.custom.apply`.

    Documents stand before the message that they came with. What earlier answers reasoned stays
    out: templates that leave it in would spend the context on it. Answers without text (failed,
    or stopped at once) are left out, and neighbours of one role are joined: many templates
    refuse two user messages in a row.
    """
    prompt: list[ChatMessage] = []
    attached = store.of_messages(leaf.conversation_id)
    syntaxes = dict(
        Generation.objects.filter(message__conversation=leaf.conversation_id).values_list(
            "message_id", "syntax"
        )
    )
    for message in branch(leaf):
        documents = [store.as_text(one) for one in attached.get(message.pk, ())]
        text = without_reasoning(message.content, syntaxes.get(message.pk))
        content = "\n\n".join(filter(None, (*documents, text)))
        if not content:
            continue
        role: Role = Message.Role(message.role).value  # type: ignore[assignment]
        if prompt and prompt[-1].role == role:
            prompt[-1] = ChatMessage(role, f"{prompt[-1].content}\n\n{content}")
        else:
            prompt.append(ChatMessage(role, content))
    return tuple(prompt)


def without_reasoning(text: str, syntax: dict[str, str] | None) -> str:
    """What an answer says to the person; ``syntax`` is its generation's, None for no answer.
    Calls stay as they are written."""
    if not syntax:
        return text
    _, content, _ = split(text, msgspec.convert(syntax, OutputSyntax), tools=False)
    return content
