"""Creating, updating and revoking shares."""

from __future__ import annotations

import uuid
from typing import TypedDict

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.conversations import branch_copy
from chatsite.conversations.models import Conversation
from chatsite.errors import ConversationNotFound, NothingToShare
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from chatsite.sharing.models import Share


class SharedCopy(TypedDict):
    """A share as its owner sees it. ``address`` is a path, ``messages`` a count."""

    address: str
    taken_at: str
    messages: int


def found(user: User, id: uuid.UUID) -> SharedCopy | None:
    """Return the share of a conversation, or None."""
    conversation = _conversation(user, id)
    share = Share.objects.of(user).filter(conversation=conversation).first()
    return _shape(share) if share else None


def publish(user: User, id: uuid.UUID) -> SharedCopy:
    """Share the shown branch in its current state; an existing link then shows that.

    Raises `NotAllowed`.
    """
    decisions.require(user, Feature.SHARING)
    conversation = _conversation(user, id)
    messages = branch_copy.of(conversation.head) if conversation.head else []
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


def _conversation(user: User, id: uuid.UUID) -> Conversation:
    own = Conversation.objects.of(user).select_related("head").filter(pk=id).first()
    if own is None:
        raise ConversationNotFound
    return own


def _shape(share: Share) -> SharedCopy:
    return {
        "address": reverse("shared", args=[share.token]),
        "taken_at": share.taken_at.isoformat(),
        "messages": len(share.messages),
    }
