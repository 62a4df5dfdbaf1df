"""Copies of a branch that others may read."""

from __future__ import annotations

from typing import Any

from chatsite.conversations import prompt
from chatsite.conversations.models import Generation, Message


def of(leaf: Message) -> list[dict[str, Any]]:
    """Return the messages from the root to ``leaf`` as ``{role, content, syntax}``.

    Without system messages, documents, and messages without text.
    """
    shown = [message for message in prompt.branch(leaf) if message.content]
    syntaxes = dict(
        Generation.objects.filter(message__in=[message.pk for message in shown]).values_list(
            "message", "syntax"
        )
    )
    return [
        {
            "role": message.role,
            "content": message.content,
            "syntax": syntaxes.get(message.pk, {}),
        }
        for message in shown
        if message.role != message.Role.SYSTEM
    ]
