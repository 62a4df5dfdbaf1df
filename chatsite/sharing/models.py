"""Conversations that their owners let everybody with an account here read."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone

if TYPE_CHECKING:
    from chatsite.accounts.models import User


def new_token() -> str:
    """Nobody guesses it; readers must be signed in besides."""
    return secrets.token_urlsafe(16)


class ShareQuerySet(models.QuerySet["Share"]):
    def of(self, user: User) -> ShareQuerySet:
        return self.filter(owner=user, conversation__deleted_at=None)

    def readable(self) -> ShareQuerySet:
        """By anybody who is signed in."""
        return self.filter(conversation__deleted_at=None, owner__is_active=True)


class Share(models.Model):
    """A copy of the branch that was shown when it was made: what is written later, other
    branches and documents stay the owner's. ``messages`` are ``{role, content, syntax}``.
    Revoking deletes it, and so does the end of the conversation."""

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
