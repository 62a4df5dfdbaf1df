"""The folder of the models: its files are named by their digests, and nothing else is."""

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

from chatsite.engine.requantized import Copy
from chatsite.errors import ChatsiteError
from models_admin.models import ModelVersion

# What stays free on the disk after an import, for the database and logs on the same one.
RESERVE = 256 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(ChatsiteError):
    code = "disk_full"
    status = 507
    permanent = False
    message = _("There is not enough space on the disk of the data folder.")


@contextmanager
def full_refused() -> Iterator[None]:
    """Lets a write that finds the disk full, or a quota used up, raise `DiskFull`."""
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
    """Raises `DiskFull`, with the figures, when so many bytes more don't fit."""
    free = shutil.disk_usage(folder()).free
    if free < size + RESERVE:
        reason = _(
            "The model needs %(size)s MB on the disk of the data folder, with %(reserve)s MB to "
            "spare; %(free)s MB are free."
        )
        figures = {"size": size >> 20, "reserve": RESERVE >> 20, "free": free >> 20}
        raise DiskFull(str(reason) % figures)


def path_of(digest: str) -> Path:
    return ModelVersion(digest=digest).path


def copy_of(digest: str) -> Copy:
    """Where this machine may have a copy of it with faster weights."""
    return Copy(copies(), digest)


def copies() -> Path:
    return Path(settings.DATA_DIR) / "requantized"


def is_whole(path: Path, size: int) -> bool:
    """Whether the file is there with so many bytes."""
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def flush_folder() -> None:
    """Makes the names in it last."""
    descriptor = os.open(folder(), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked() -> Iterator[None]:
    """One at a time changes which files have names, over all processes of this store."""
    descriptor = os.open(folder() / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
