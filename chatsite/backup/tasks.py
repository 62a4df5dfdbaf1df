"""Regular backups, started by beat."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from chatsite.audit.record import record
from chatsite.backup import create
from chatsite.celery import app
from chatsite.env import Environment
from chatsite.errors import ChatsiteError

log = logging.getLogger(__name__)

# Beats of several machines are not at the same moment.
_SHARE: float = 0.5


@app.task(name="chatsite.backup.create_regular", ignore_result=True)
def create_regular() -> None:
    """Make a backup in `CHATSITE_BACKUP_DIR` unless another machine has just made one."""
    environment: Environment = settings.ENV
    folder = environment.backup_dir
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder) as alone:
            if alone and not _is_recent(folder, timedelta(hours=environment.backup_hours) * _SHARE):
                path = folder / create.name_now()
                create.create_recorded(path, via="system")
                create.rotate(folder, environment.backup_keep)
    except (ChatsiteError, OSError) as error:
        log.error("Regular backup failed", extra={"folder": folder, "error": error})
        record("backup.created", via="system", outcome="failed", reason=str(error))


def _is_recent(folder: Path, least: timedelta) -> bool:
    found = create.existing(folder)
    return bool(found) and timezone.now() - found[-1][0] < least


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Yield whether no other regular backup into ``folder`` runs."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
