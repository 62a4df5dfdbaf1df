"""The partial files that jobs leave: each has its jobs as owners, and goes with the last."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db.models import Q
from django.utils import timezone

from models_admin import blobs, inbox, partial
from models_admin.models import Job, JobState

# A failed job may be tried again in this time without fetching anew what had arrived.
_KEPT: Final = timedelta(days=7)


def clean() -> list[str]:
    """Returns the names of the files that are gone."""
    recent = timezone.now() - _KEPT
    owners = Job.objects.filter(
        Q(state__in=Job.OPEN) | Q(state=JobState.FAILED, finished_at__gt=recent)
    )
    kept: set[str] = set()
    for source, options in owners.values_list("source", "options"):
        kept.update(options.get("digests", ()), options.get("files", ()))
        kept.add(source.rpartition(":")[2])  # an upload is called by its job's source
    return partial.clean(kept) + inbox.clean(kept) + blobs.clean(kept)
