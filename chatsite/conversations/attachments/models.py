"""Documents that users attach to messages: their texts and owners."""

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
    """The text of an attached document; the file itself is not kept.

    ``text`` is set once ``ready``. ``tokens`` is its length for the model chosen at the upload.
    Without a conversation it has not been sent; with one it is deleted together with it. Several
    messages may share it: an edited message keeps the attachments of the message that it replaces.
    """

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
    # What could not be read or was guessed: `[code, values]` of `notes`.
    notes = models.JSONField(default=list, blank=True)
    text = models.TextField(blank=True)
    # The first character of each page in the text; empty if it has no pages.
    page_starts = models.JSONField(default=list, null=True, blank=True)
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


class Selection(models.Model):
    """What a message sends of an attachment; without a selection, all of it.

    ``pages`` are page ranges such as ``3-7, 12``. Empty: the passages that match the question,
    which are sent with the question only.
    """

    attachment = models.ForeignKey(Attachment, on_delete=models.CASCADE, related_name="selections")
    message = models.ForeignKey("chat.Message", on_delete=models.CASCADE, related_name="selections")
    pages = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["message", "attachment"], name="selection_once")
        ]

    def __str__(self) -> str:
        return f"{self.message_id} {self.attachment_id}"


class Piece(models.Model):
    """A part of an upload; deleted once the file has been read."""

    attachment = models.ForeignKey(Attachment, on_delete=models.CASCADE, related_name="pieces")
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["attachment", "number"], name="attachment_piece_once")
        ]

    def __str__(self) -> str:
        return f"{self.attachment_id} {self.number}"
