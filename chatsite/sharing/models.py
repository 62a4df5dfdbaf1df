"""Conversations that their owners share with all signed-in users."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone

if TYPE_CHECKING:
    from chatsite.accounts.models import User


def new_token() -> str:
    """Return a token that can't be guessed; readers must also be signed in."""
    return secrets.token_urlsafe(16)


class ShareQuerySet(models.QuerySet["Share"]):
    def of(self, user: User) -> ShareQuerySet:
        return self.filter(owner=user, conversation__deleted_at=None)

    def readable(self) -> ShareQuerySet:
        """Return the shares that any signed-in user may read."""
        return self.filter(conversation__deleted_at=None, owner__is_active=True)


class Share(models.Model):
    """A copy of the branch that was shown at its creation.

    Later messages, other branches and documents are not shared. ``messages`` are
    ``{role, content, syntax}``. It is deleted when it is revoked or its conversation is deleted.
    """

    token = models.CharField(max_length=32, unique=True, default=new_token)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="shares"
    )
    conversation = models.OneToOneField(
        "chat.Conversation", on_delete=models.CASCADE, related_name="share"
    )
    title = models.CharField(max_length=200, blank=True)
    messages = models.JSONField(default=list)
    taken_at = models.DateTimeField(default=timezone.now)

    objects = ShareQuerySet.as_manager()

    def __str__(self) -> str:
        return self.token
