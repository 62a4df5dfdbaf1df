"""The data folder: made private, checked to be writable, and locked against a second start."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

_OURS = {"run", "secret_key", "chatsite.sqlite3"}
_HARMLESS = {"lost+found", ".gitkeep"}
_LOW_SPACE_BYTES = 256 * 1024 * 1024


class DataDirProblem(SystemExit):
    """Ends the process with a message that says what to do."""


def prepare(path: Path) -> None:
    """Create ``path`` and ``path/run`` with mode 0700 and check that files can be written.

    Raises `DataDirProblem`, also for a folder with other content: making it private would lock
    out its users.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
        if names - _HARMLESS and not names & _OURS:
            raise DataDirProblem(
                f"{path} contains other files ({', '.join(sorted(names)[:3])}, …). Choose an empty "
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
            f"user {os.geteuid()} has no write permission. Change the folder's owner, or choose "
            "another folder (DATA_DIR, --data-dir or CHATSITE_DATA_DIR)."
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full. Free some space, then start again."
    if error.errno == errno.EROFS:
        return "the file system is read-only. Choose another folder."
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return "a part of that path is a file. Choose another folder."
    return f"{error.strerror or error}."


def low_space(path: Path) -> int | None:
    """Return the free bytes on the disk of ``path`` if they are few, else None."""
    free = shutil.disk_usage(path).free
    return free if free < _LOW_SPACE_BYTES else None


@contextlib.contextmanager
def locked(path: Path, parts: Collection[str] = ()) -> Iterator[None]:
    """Hold the lock of a start on ``path`` during the block; the kernel releases it on death.

    A start of some ``parts`` excludes other starts of the same parts and of the whole product; a
    start of the whole product (no ``parts``) excludes all others. Raises `DataDirProblem` with the
    holder's process ID.
    """
    run = path / "run"
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock_file(run / "up.lock", path, shared=bool(parts)))
        for part in sorted(parts):
            stack.enter_context(_lock_file(run / f"up-{part}.lock", path))
        yield


@contextlib.contextmanager
def _lock_file(lock: Path, path: Path, *, shared: bool = False) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise DataDirProblem(
                f"Already running on {path}: process {holder}. Stop it first, or choose "
                "another data folder (DATA_DIR, --data-dir or CHATSITE_DATA_DIR)."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def interrupted_restore(path: Path) -> Path:
    """Return the file that exists while `manage.py restore` exchanges files of the data folder."""
    return path / "run" / "restore.json"


def require_restored(path: Path) -> None:
    """Raise `DataDirProblem` if a restore was killed while it exchanged files."""
    if interrupted_restore(path).exists():
        raise DataDirProblem(
            f"A restore of {path} was interrupted. Complete it: manage.py restore --resume"
        )
