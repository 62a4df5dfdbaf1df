"""From a branch of the tree to the messages that a model sees."""

from __future__ import annotations

import uuid

from django.conf import settings

from chatsite.chat.attachments import store
from chatsite.chat.models import Message
from chatsite.engine.messages import ChatMessage, Role


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

    Documents stand before the message that they came with. Answers without text (failed, or
    stopped at once) are left out, and neighbours of one role are joined: many templates refuse
    two user messages in a row.
    """
    prompt: list[ChatMessage] = []
    attached = store.of_messages(leaf.conversation_id)
    for message in branch(leaf):
        documents = [store.as_text(one) for one in attached.get(message.pk, ())]
        content = "\n\n".join(filter(None, (*documents, message.content)))
        if not content:
            continue
        role: Role = Message.Role(message.role).value  # type: ignore[assignment]
        if prompt and prompt[-1].role == role:
            prompt[-1] = ChatMessage(role, f"{prompt[-1].content}\n\n{content}")
        else:
            prompt.append(ChatMessage(role, content))
    return tuple(prompt)
