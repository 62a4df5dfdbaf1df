"""What is due for deletion and what is held, for the command line and the administration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from chatsite.conversations.models import Conversation
from chatsite.retention import deletions, holds, periods
from chatsite.retention.models import Deletion, GroupRetention, LegalHold, WorkState
from chatsite.site_settings import current


@dataclass(frozen=True)
class Status:
    """``days`` 0: no limit. ``due`` are expired conversations by period, ``held`` users on hold.

    ``deleted_due`` are deleted conversations that can't be restored any more, ``undoable`` those
    that can, ``kept`` those that a legal hold keeps. ``last_run`` is when something was purged.
    """

    days: int
    keeps_pinned: bool
    groups: dict[str, int]
    due: dict[int, int]
    deleted_due: int
    undoable: int
    kept: int
    holds: int
    held: int
    open_deletions: int
    last_run: datetime | None

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["last_run"] = self.last_run.isoformat() if self.last_run else None
        return found

    def lines(self) -> list[str]:
        period = f"{self.days} days" if self.days else "no limit"
        return [
            f"Retention period: {period}, pinned chats {'kept' if self.keeps_pinned else 'too'}",
            *(f"  group {name}: {days or 'no own period'}" for name, days in self.groups.items()),
            f"Expired chats: {sum(self.due.values())}",
            f"Deleted chats: {self.deleted_due} due, {self.undoable} can be restored",
            f"Legal holds: {self.holds} ({self.held} users, {self.kept} deleted chats kept)",
            f"Deletions in progress: {self.open_deletions}",
            f"Last purge: {self.last_run.isoformat() if self.last_run else 'none'}",
        ]


def status() -> Status:
    settings = current()
    before = timezone.now() - deletions.UNDO
    gone = Conversation.objects.exclude(deleted_at=None)
    held = holds.held_users()
    free = gone.exclude(owner__in=held)
    groups = GroupRetention.objects.select_related("group").order_by("group__name")
    purged = Deletion.objects.filter(state=WorkState.DONE).order_by("-finished_at").first()
    return Status(
        days=settings.retention_days,
        keeps_pinned=settings.retention_keeps_pinned,
        groups={row.group.name: row.days for row in groups},
        due={days: found.count() for days, found in periods.expired()},
        deleted_due=free.filter(deleted_at__lt=before).count(),
        undoable=free.filter(deleted_at__gte=before).count(),
        kept=gone.filter(owner__in=held).count(),
        holds=LegalHold.objects.count(),
        held=held.count(),
        open_deletions=Deletion.objects.filter(
            state__in=[WorkState.QUEUED, WorkState.RUNNING]
        ).count(),
        last_run=purged.finished_at if purged else None,
    )
