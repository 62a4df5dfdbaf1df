"""The index: one entry per message (several for a very long one) and one per title."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from chatsite.text_terms import TermsField

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class EntryQuerySet(models.QuerySet["Entry"]):
    def of(self, user: User) -> EntryQuerySet:
        return self.filter(owner=user, conversation__deleted_at=None)


class Entry(models.Model):
    """The terms of a message or, if ``message`` is None, of a title.

    ``id`` begins with the time of the indexed row, so that key order is time order, which both
    databases can walk.
    """

    id = models.BigIntegerField(primary_key=True)
    # Entries are found by key; an index on the owner would only mislead the planner.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    conversation = models.ForeignKey(
        "chat.Conversation", on_delete=models.CASCADE, related_name="+"
    )
    message = models.ForeignKey(
        "chat.Message", on_delete=models.CASCADE, null=True, related_name="+"
    )
    terms = TermsField()

    objects = EntryQuerySet.as_manager()

    def __str__(self) -> str:
        return str(self.id)
