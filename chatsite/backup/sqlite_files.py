"""The files of an SQLite database."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path


def files(path: Path) -> list[Path]:
    """Return the database and its journals."""
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]


def staged(path: Path) -> Path:
    """Return where the successor of a database is built: beside it, on the same file system."""
    return path.with_name(f"{path.name}.restoring")


def remove(path: Path) -> None:
    for file in files(path):
        file.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Bring everything into the database's own file and flush it to disk."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for journal in files(path)[1:]:
        journal.unlink(missing_ok=True)
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())
