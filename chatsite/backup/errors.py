"""Refusals of backup, restore and move."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chatsite.errors import ChatsiteError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BackupRefused(ChatsiteError):
    """A backup, restore or move that can't be done; the message says what to do."""

    code = "backup_refused"
    status = 409
    message = "The backup, restore or move is not possible. The command says why."


class BadArchive(BackupRefused):
    """A file that is not a complete, unchanged backup."""

    code = "bad_backup"
    status = 422
    message = "The file is not a complete, unchanged backup."


@contextmanager
def named(path: Path, *, wanted: str) -> Iterator[None]:
    """Turn an `OSError` of the block into `BackupRefused`, which names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            reason = "the disk is full, or a limit of file sizes is reached. Free some space"
        else:
            reason = error.strerror or str(error)
        raise BackupRefused(f"{wanted} {path}: {reason}.") from error
