"""Deletion of partial files, uploads and blobs that no job owns."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db.models import Q
from django.utils import timezone

from models_admin.jobs import incoming, requests
from models_admin.models import Job, JobState
from models_admin.store import blobs, partial

# A failed job can be retried for this long without downloading everything again.
_KEPT: Final = timedelta(days=7)


def clean() -> list[str]:
    """Delete orphaned files; return their names."""
    recent = timezone.now() - _KEPT
    owners = Job.objects.filter(
        Q(state__in=Job.OPEN) | Q(state=JobState.FAILED, finished_at__gt=recent)
    )
    kept: set[str] = set()
    for job in owners:
        kept.update(job.partial_files, requests.of(job).temporary_files)
    return partial.clean(kept) + incoming.clean(kept) + blobs.clean(kept)
