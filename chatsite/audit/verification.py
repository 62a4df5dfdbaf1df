"""Verification with its result stored, and the state of the log for pages and probes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from django.conf import settings
from django.utils import timezone

from chatsite.audit import chain, drain, spool
from chatsite.audit.models import Verification
from chatsite.audit.record import record
from chatsite.audit.record import spool as own_spool

# Seconds after which events that wait in the spool count as delayed.
LATE_SECONDS: Final = 60.0


def verify() -> chain.Report:
    """Verify the chain and store the result. A failure is also an event, which is forwarded."""
    report = chain.verify()
    problem = report.problem
    Verification.objects.update_or_create(
        pk=1,
        defaults={
            "time": timezone.now(),
            "ok": report.ok,
            "events": report.events,
            "last": report.last,
            "problem": problem.what if problem else "",
            "problem_sequence": problem.sequence if problem else 0,
        },
    )
    if problem is not None:
        record(
            "audit.verified",
            via="system",
            outcome="failed",
            problem=problem.what,
            sequence=problem.sequence,
        )
    return report


def last() -> Verification | None:
    return Verification.objects.filter(pk=1).first()


def prune(days: int) -> int:
    """Delete events older than ``days`` (0: none); return how many."""
    if not days:
        return 0
    count = chain.prune(timezone.now() - timedelta(days=days))
    if count:
        anchor = chain.head()
        record(
            "audit.pruned",
            via="system",
            count=count,
            last=anchor.pruned_sequence,
            hash=anchor.pruned_hash,
            days=days,
        )
    return count


@dataclass(frozen=True)
class SpoolState:
    """What waits on this machine: bytes in files, lines in the memory of this process only.

    ``since`` is when events were last stored, if that is too long ago.
    """

    waiting_bytes: int
    kept: int
    since: datetime | None

    @property
    def is_delayed(self) -> bool:
        return self.since is not None or self.kept > 0


def spool_state() -> SpoolState:
    """Return the state without asking the database, which may be the reason for a delay."""
    path = spool.folder(Path(settings.DATA_DIR))
    stored_at = drain.stored_at(path)
    waiting = spool.size(path, changed_after=stored_at)
    late = waiting > 0 and time.time() - stored_at > LATE_SECONDS
    since = datetime.fromtimestamp(stored_at, UTC) if late else None
    return SpoolState(waiting, own_spool().kept, since)
