"""The origin of imported conversations, so that none is imported twice."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from chatsite.accounts.models import User


class OriginQuerySet(models.QuerySet["Origin"]):
    def of(self, user: User) -> OriginQuerySet:
        return self.filter(owner=user)


class Origin(models.Model):
    """An imported conversation, identified by its ID ``key`` in the program ``source``."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=16)
    key = models.CharField(max_length=100)
    conversation = models.OneToOneField(
        "chat.Conversation", on_delete=models.CASCADE, related_name="origin"
    )

    objects = OriginQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "source", "key"], name="origin_once")
        ]

    def __str__(self) -> str:
        return f"{self.source}: {self.key}"
