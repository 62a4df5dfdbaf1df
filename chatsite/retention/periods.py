"""How long conversations are kept, and which ones have expired.

The shortest period of a user's groups wins over the organization's, also if it is longer; a group
without a period, or with 0, does not count. A conversation's period begins with its last activity.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Min, Q
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.conversations.models import OPEN_STATES, Conversation, ConversationQuerySet
from chatsite.retention import holds
from chatsite.retention.models import GroupRetention
from chatsite.site_settings import current


def days_for(user: User) -> int:
    """Return the retention period of a user in days, 0 for no limit."""
    shortest = GroupRetention.objects.filter(group__in=user.groups.all(), days__gt=0)
    found = shortest.aggregate(days=Min("days"))["days"]
    return found or current().retention_days


def expired(now: datetime | None = None) -> Iterator[tuple[int, ConversationQuerySet]]:
    """Yield each period in days with the conversations that it has ended.

    Conversations under a legal hold, with an open answer, and pinned ones if those are kept, are
    excluded.
    """
    now = now or timezone.now()
    settings = current()
    found = Conversation.objects.exclude(owner__in=holds.held_users())
    if settings.retention_keeps_pinned:
        found = found.filter(pinned_at=None)
    found = found.exclude(messages__generation__state__in=OPEN_STATES)
    grouped = User.objects.annotate(
        period=Min("groups__retention__days", filter=Q(groups__retention__days__gt=0))
    )
    every = GroupRetention.objects.filter(days__gt=0).values_list("days", flat=True)
    for days in sorted(set(every)):
        owners = grouped.filter(period=days)
        yield days, found.filter(updated_at__lt=now - timedelta(days=days), owner__in=owners)
    if days := settings.retention_days:
        owners = grouped.filter(period=None)
        yield days, found.filter(updated_at__lt=now - timedelta(days=days), owner__in=owners)
