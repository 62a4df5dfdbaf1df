"""The spool: files to which each process appends its events until they are in the database.

Each process has a file of its own in `CHATSITE_DATA_DIR/run/audit`, with one JSON line per event.
A line is appended by one `write` with O_APPEND, so it survives the death of the process. The file
is locked (flock) while its process may append to it; the drainer deletes files that are not.

While lines can't be written (full disk, or the spool has reached its limit because the database is
down), a bounded number is kept in memory. Lines beyond that are dropped and counted.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

SUFFIX: Final = ".jsonl"
FILE_BYTES: Final = 4 << 20
# Beyond this size of all files, events are kept in memory only.
FOLDER_BYTES: Final = 512 << 20
KEPT_LINES: Final = 10_000
# Seconds between attempts to write after a failure.
RETRY_SECONDS: Final = 1.0


def folder(data_dir: Path) -> Path:
    return data_dir / "run" / "audit"


class Spool:
    """The file of this process in ``path``. Thread-safe; usable after a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: int | None = None
        self._size = 0
        self._kept: deque[bytes] = deque()
        self._dropped = 0
        self._failing = False
        self.retry_at = 0.0
        os.register_at_fork(after_in_child=self._begin_fork)

    def append(self, line: bytes) -> None:
        """Append ``line``, which ends with a line break. Never raises `OSError`."""
        with self._lock:
            if self._failing and time.monotonic() < self.retry_at:
                self._keep(line)
                return
            try:
                self._write_kept()
                self._write(line)
            except OSError as error:
                self._keep(line)
                self._fail(error)

    def flush(self) -> bool:
        """Write what is kept in memory; return whether nothing is kept any more."""
        with self._lock:
            try:
                self._write_kept()
            except OSError as error:
                self._fail(error)
            return not self._kept

    @property
    def kept(self) -> int:
        """The number of lines that are in memory only."""
        return len(self._kept)

    @property
    def dropped(self) -> int:
        """The number of lines that were dropped and not reported yet."""
        return self._dropped

    def take_dropped(self) -> int:
        """Return ``dropped`` and reset it."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def close(self) -> None:
        with self._lock:
            self._close()

    def _write_kept(self) -> None:
        while self._kept:
            self._write(self._kept[0])
            self._kept.popleft()
        if self._failing:
            self._failing = False
            log.warning("Audit events can be written again")

    def _write(self, line: bytes) -> None:
        if self._file is None or self._size >= FILE_BYTES:
            self._open()
        assert self._file is not None  # noqa: S101  (`_open` raises otherwise)
        written = os.write(self._file, line)
        self._size += written
        if written < len(line):
            # The full line is written again to another file; the drainer skips the fragment.
            self._close()
            raise OSError(f"only {written} of {len(line)} bytes were written")

    def _open(self) -> None:
        """Create the next file. It gets its name only once it is locked."""
        self._close()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if size(self.path) >= FOLDER_BYTES:
            raise OSError(f"the spool has reached {FOLDER_BYTES >> 20} MiB")
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        temporary = self.path / f"{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            owner = self.path.stat()
            if os.geteuid() == 0 and owner.st_uid != 0:
                # A command run by root: the server must be able to read and delete the file.
                os.fchown(file, owner.st_uid, owner.st_gid)
            temporary.rename(self.path / f"{name}{SUFFIX}")
        except OSError:
            os.close(file)
            temporary.unlink(missing_ok=True)
            raise
        self._file, self._size = file, 0

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _keep(self, line: bytes) -> None:
        if len(self._kept) >= KEPT_LINES:
            self._kept.popleft()
            self._dropped += 1
        self._kept.append(line)

    def _fail(self, error: OSError) -> None:
        self.retry_at = time.monotonic() + RETRY_SECONDS
        if not self._failing:
            self._failing = True
            log.error("Audit events can't be written; keeping them in memory", exc_info=error)

    def _begin_fork(self) -> None:
        """Start a file of its own; the parent writes what it keeps itself."""
        self._lock = threading.Lock()
        self._kept.clear()
        self._dropped = 0
        self._close()


def size(path: Path, changed_after: float = 0.0) -> int:
    """Return the bytes of the files of a spool that changed after a time (seconds since 1970)."""
    total = 0
    for file in path.glob(f"*{SUFFIX}"):
        try:
            found = file.stat()
        except FileNotFoundError:
            continue  # just drained
        if found.st_mtime > changed_after:
            total += found.st_size
    return total
