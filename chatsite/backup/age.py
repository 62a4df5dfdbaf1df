"""The age of the newest backup in `CHATSITE_BACKUP_DIR`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from chatsite.backup.create import existing
from chatsite.env import Environment


@dataclass(frozen=True)
class Standing:
    """``error`` is why ``folder`` can't be read; ``newest`` is None before the first backup."""

    folder: Path
    newest: datetime | None
    error: str = ""

    @property
    def age(self) -> timedelta | None:
        return None if self.newest is None else timezone.now() - self.newest

    @property
    def is_stale(self) -> bool:
        limit = timedelta(hours=settings.ENV.backup_age_hours)
        return self.age is None or self.age > limit


def standing() -> Standing | None:
    """Return how backups stand; None if no folder for them is set."""
    environment: Environment = settings.ENV
    folder = environment.backup_dir
    if folder is None:
        return None
    try:
        found = existing(folder)
    except OSError as error:
        return Standing(folder, None, error.strerror or str(error))
    return Standing(folder, found[-1][0] if found else None)
