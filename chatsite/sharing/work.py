"""Making, renewing and revoking what others may read."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.chat import prompt
from chatsite.chat.models import Conversation, Generation
from chatsite.errors import NotFound, NothingToShare
from chatsite.sharing.models import Share


def found(user: User, id: uuid.UUID) -> dict[str, Any] | None:
    """How a conversation is shared, None if it is not."""
    conversation = _conversation(user, id)
    share = Share.objects.of(user).filter(conversation=conversation).first()
    return _shape(share) if share else None


def publish(user: User, id: uuid.UUID) -> dict[str, Any]:
    """Shares the shown branch as it is now; a link that is there shows it from now on."""
    conversation = _conversation(user, id)
    messages = _copy(conversation)
    if not messages:
        raise NothingToShare
    with transaction.atomic():
        share, _made = Share.objects.update_or_create(
            conversation=conversation,
            defaults={
                "owner": user,
                "title": conversation.title,
                "messages": messages,
                "taken_at": timezone.now(),
            },
        )
    return _shape(share)


def revoke(user: User, id: uuid.UUID) -> None:
    Share.objects.of(user).filter(conversation=_conversation(user, id)).delete()


def _copy(conversation: Conversation) -> list[dict[str, Any]]:
    if conversation.head is None:
        return []
    shown = [message for message in prompt.branch(conversation.head) if message.content]
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


def _conversation(user: User, id: uuid.UUID) -> Conversation:
    own = Conversation.objects.of(user).select_related("head").filter(pk=id).first()
    if own is None:
        raise NotFound
    return own


def _shape(share: Share) -> dict[str, Any]:
    return {
        "address": reverse("shared", args=[share.token]),
        "taken_at": share.taken_at.isoformat(),
        "messages": len(share.messages),
    }
