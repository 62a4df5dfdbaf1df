"""Documents that people give to the model with a message: their text, and whose they are."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    def of(self, user: User) -> AttachmentQuerySet:
        return self.filter(owner=user)


class Attachment(models.Model):
    """``text`` is what was read from the file, which itself is not kept; there once ``ready``.
    ``tokens`` is what that text took of the model it was read for. Without a conversation
    nothing has been sent with it yet; with one it is deleted with that. Several messages may
    have the same one: an edited message keeps those of the message that it replaces."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="attachments"
    )
    conversation = models.ForeignKey(
        "chat.Conversation",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="attachments",
    )
    messages = models.ManyToManyField("chat.Message", related_name="attachments", blank=True)
    name = models.CharField(_("name"), max_length=255)
    size = models.PositiveIntegerField(_("size in bytes"))
    kind = models.CharField(max_length=10, blank=True)
    pages = models.PositiveIntegerField(null=True, blank=True)
    text = models.TextField(blank=True)
    characters = models.PositiveIntegerField(default=0)
    tokens = models.PositiveIntegerField(null=True, blank=True)
    ready = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        ordering = ["created_at", "pk"]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=models.Q(conversation=None),
                name="attachment_unsent",
            )
        ]

    def __str__(self) -> str:
        return str(self.id)


class Piece(models.Model):
    """A part of a file on its way here; gone once the file is read."""

    attachment = models.ForeignKey(Attachment, on_delete=models.CASCADE, related_name="pieces")
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["attachment", "number"], name="attachment_piece_once")
        ]

    def __str__(self) -> str:
        return f"{self.attachment_id} {self.number}"
