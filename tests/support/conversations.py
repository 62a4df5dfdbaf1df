"""Conversations written directly to the database, without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.conversations.models import Conversation, Generation, GenerationState, Message

SYNTAX = {"think_open": "<think>", "think_close": "</think>", "tools": "hermes"}


def write(person: str, answers: Sequence[str], *, title: str = "Written", cut: str = "") -> str:
    """Write a conversation with one turn for each of ``answers``; return its ID.

    ``cut`` is the finish reason of the last answer.
    """
    owner = User.objects.get(username=person)
    conversation = Conversation.objects.create(owner=owner, title=title)
    began = timezone.now() - timedelta(seconds=2 * len(answers))
    messages: list[Message] = []
    for number, answer in enumerate(answers):
        for role, content in ((Message.Role.USER, f"Question {number}"), ("assistant", answer)):
            message = Message(
                conversation=conversation,
                parent=messages[-1] if messages else None,
                role=role,
                content=content,
                created_at=began + timedelta(seconds=len(messages)),
            )
            messages.append(message)
    Message.objects.bulk_create(messages)
    Generation.objects.bulk_create(
        Generation(
            owner=owner,
            message=message,
            state=GenerationState.DONE,
            finish_reason=cut if cut and message is messages[-1] else "stop",
            timings={"reasoning": 12_400.0},
            model="smollm2:135m",
            syntax=SYNTAX,
        )
        for message in messages[1::2]
    )
    conversation.head = messages[-1] if messages else None
    conversation.save()
    return str(conversation.pk)
