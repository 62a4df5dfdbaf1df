"""The data folder: made private, proved writable, and locked against a second start."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_OURS = {"run", "secret_key", "chatsite.sqlite3"}
_HARMLESS = {"lost+found", ".gitkeep"}
_LOW_SPACE_BYTES = 256 * 1024 * 1024


class DataDirProblem(SystemExit):
    """Ends the process with a sentence that says what to do."""


def prepare(path: Path) -> None:
    """Makes ``path`` and ``path/run`` with mode 0700 and proves that files can be written.

    Raises `DataDirProblem`; also for a folder that holds other things, since making it private
    would take it from their users.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
        if names - _HARMLESS and not names & _OURS:
            raise DataDirProblem(
                f"{path} holds other things ({', '.join(sorted(names)[:3])}, …). Choose an empty "
                "folder, or one that does not exist yet, as data folder (DATA_DIR, --data-dir or "
                "CHATSITE_DATA_DIR)."
            )
        if path.stat().st_uid == os.geteuid():
            path.chmod(0o700)
        (path / "run").mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path / "run") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise DataDirProblem(f"The data folder {path} can't be used: {_advice(error)}") from None


def _advice(error: OSError) -> str:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"user {os.geteuid()} may not write there. Change the folder's owner, or choose "
            "another folder (DATA_DIR, --data-dir or CHATSITE_DATA_DIR)."
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full. Free some space, then start again."
    if error.errno == errno.EROFS:
        return "the file system is read-only. Choose another folder."
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return "something on that path is a file. Choose another folder."
    return f"{error.strerror or error}."


def low_space(path: Path) -> int | None:
    """Free bytes on the disk of ``path`` when they are few, else None."""
    free = shutil.disk_usage(path).free
    return free if free < _LOW_SPACE_BYTES else None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds ``path/run/up.lock`` while the block runs; the kernel frees it when we die.

    Raises `DataDirProblem` with the holder's process id when another start holds it.
    """
    descriptor = os.open(path / "run" / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise DataDirProblem(
                f"Already running on {path}: process {holder}. End that one first, or choose "
                "another data folder (DATA_DIR, --data-dir or CHATSITE_DATA_DIR)."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
