"""Ratings by model, and the comments of users, as administrators see them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count, QuerySet

from chatsite.feedback.models import Feedback, Vote


@dataclass
class OfModel:
    """Ratings of a model's answers. ``users`` are the IDs of those who rated."""

    model: str
    up: int = 0
    down: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    users: set[str] = field(default_factory=set)

    @property
    def rated(self) -> int:
        return self.up + self.down

    @property
    def satisfaction(self) -> float | None:
        """Return the share of good ratings, 0 to 1."""
        return self.up / self.rated if self.rated else None


def by_model(begin: datetime | None = None, end: datetime | None = None) -> list[OfModel]:
    """Return the ratings between two instants, the most rated model first."""
    rows = _between(begin, end).order_by()
    found: dict[str, OfModel] = {}
    for model, vote, reason, count in rows.values_list("model", "vote", "reason").annotate(
        count=Count("pk")
    ):
        one = found.setdefault(model, OfModel(model))
        if vote == Vote.UP:
            one.up += count
        else:
            one.down += count
        if reason:
            one.reasons[vote, reason] += count
    users: dict[str, set[str]] = defaultdict(set)
    # Those of deleted users count as one: they can't be told apart.
    for model, owner in rows.values_list("model", "owner_id").distinct():
        users[model].add(str(owner or ""))
    for one in found.values():
        one.users = users[one.model]
    return sorted(found.values(), key=lambda one: (-one.rated, one.model))


def written(
    begin: datetime | None = None,
    end: datetime | None = None,
    *,
    model: str = "",
    vote: str = "",
    reason: str = "",
) -> QuerySet[Feedback]:
    """Return ratings with a comment or a shared copy, the newest first.

    Those in deleted conversations are left out at once, before they are purged.
    """
    found = _between(begin, end).filter(message__conversation__deleted_at=None)
    found = found.exclude(comment=None, shared=None)
    for name, value in (("model", model), ("vote", vote), ("reason", reason)):
        if value:
            found = found.filter(**{name: value})
    return (
        found.select_related("comment", "shared").defer("shared__messages").order_by("-updated_at")
    )


def _between(begin: datetime | None, end: datetime | None) -> QuerySet[Feedback]:
    found = Feedback.objects.all()
    if begin is not None:
        found = found.filter(created_at__gte=begin)
    if end is not None:
        found = found.filter(created_at__lt=end)
    return found
