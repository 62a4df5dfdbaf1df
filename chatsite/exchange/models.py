"""Which conversations came from where, so that none comes twice."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Origin(models.Model):
    """``key`` is the conversation's id where it was exported; ``source`` says what that was."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=16)
    key = models.CharField(max_length=100)
    conversation = models.OneToOneField(
        "chat.Conversation", on_delete=models.CASCADE, related_name="origin"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "source", "key"], name="origin_once")
        ]

    def __str__(self) -> str:
        return f"{self.source}: {self.key}"
