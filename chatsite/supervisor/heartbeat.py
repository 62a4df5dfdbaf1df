"""Heartbeats of main loops: the modification time of a file in the data folder.

A file needs neither Redis nor disk space, so failures of those do not look like a hang. The
supervisor creates the files, and compares times only with earlier ones, so clock changes do not
matter.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SECONDS = 1.0
INFERENCE = "inference"
CELERY = "celery"
BEAT = "beat"


def path(data_dir: Path, name: str) -> Path:
    return data_dir / "run" / f"{name}.alive"


def prepare(data_dir: Path) -> dict[str, int]:
    """Create the files, and return what `read` returns of each."""
    for name in (INFERENCE, CELERY, BEAT):
        path(data_dir, name).touch()
    return {name: read(data_dir, name) for name in (INFERENCE, CELERY, BEAT)}


def beat(data_dir: Path, name: str) -> None:
    """Write a heartbeat. Called from the loop that it is about. Never raises."""
    with contextlib.suppress(OSError):
        os.utime(path(data_dir, name))


def read(data_dir: Path, name: str) -> int:
    """Return a number that changes with each heartbeat; 0 before the first."""
    try:
        return path(data_dir, name).stat().st_mtime_ns
    except OSError:
        return 0
