"""The index: one entry per message (several for a very long one) and one per title."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class TermsField(models.Field):  # type: ignore[type-arg]
    """A set of terms: ``tsvector`` on PostgreSQL; on SQLite text with blanks between them, of
    which the migration keeps an FTS5 index by triggers."""

    def db_type(self, connection: Any) -> str:
        return "tsvector" if connection.vendor == "postgresql" else "text"

    def get_placeholder(self, value: Any, compiler: Any, connection: Any) -> str:
        return "array_to_tsvector(%s)" if connection.vendor == "postgresql" else "%s"

    def get_db_prep_value(
        self, value: Iterable[str], connection: Any, prepared: bool = False
    ) -> Any:
        return sorted(value) if connection.vendor == "postgresql" else " ".join(sorted(value))


class EntryQuerySet(models.QuerySet["Entry"]):
    def of(self, user: User) -> EntryQuerySet:
        return self.filter(owner=user, conversation__deleted_at=None)


class Entry(models.Model):
    """``id`` begins with the time of what it stands for, so that the newest come first in the
    order of the key, which both databases can walk. ``message`` is None for a title."""

    id = models.BigIntegerField(primary_key=True)
    # Entries are found by key; an index of owners would only lead the planner astray.
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
