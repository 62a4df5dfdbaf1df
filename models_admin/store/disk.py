"""The folder of model files, which are named by digest."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from chatsite.engine.tuning.requantized import Copy
from chatsite.errors import ChatsiteError, worded
from models_admin.models import ModelVersion

# Kept free after an import, for the database and logs on the same disk.
RESERVE = 256 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(ChatsiteError):
    code = "disk_full"
    status = 507
    permanent = False
    message = _("The disk of the data folder is full. Free some space and try again.")


@contextmanager
def full_refused() -> Iterator[None]:
    """Turn an `OSError` from a full disk or an exceeded quota into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull from error
        raise


def folder() -> Path:
    path = Path(settings.DATA_DIR) / "models"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def require_space(size: int) -> None:
    """Raise `DiskFull`, with the figures, unless ``size`` more bytes fit."""
    free = shutil.disk_usage(folder()).free
    if free < size + RESERVE:
        reason = _(
            "The model needs %(size)s MB plus a reserve of %(reserve)s MB on the disk of the data "
            "folder; %(free)s MB are free."
        )
        figures = {"size": size >> 20, "reserve": RESERVE >> 20, "free": free >> 20}
        raise DiskFull(worded(reason, figures))


def path_of(digest: str) -> Path:
    return ModelVersion(digest=digest).path


def copy_of(digest: str) -> Copy:
    """Return the requantized copy that this machine may have of a version."""
    return Copy(copies(), digest)


def copies() -> Path:
    return Path(settings.DATA_DIR) / "requantized"


def is_whole(path: Path, size: int) -> bool:
    """Return whether the file exists and has ``size`` bytes."""
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def flush_folder() -> None:
    """Flush the directory entries to disk."""
    descriptor = os.open(folder(), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked() -> Iterator[None]:
    """Hold the store's lock, across all processes: only one changes names of files at a time."""
    descriptor = os.open(folder() / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
