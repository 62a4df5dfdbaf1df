"""Restarts the product's own Redis when its data are damaged, as by a power failure.

Redis itself repairs only a truncated file. Any other damage (zeros at the end, garbage, a broken
manifest or base) makes each start fail, and with it the site. SQL has what matters: requests that
Redis loses are queued again from there. So damaged data are set aside, never deleted: first what
follows the last complete command, then, if that is not enough, everything.
"""

from __future__ import annotations

import mmap
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

# Redis' default name for the folder of a multi-part append-only file.
APPEND_ONLY: Final = "appendonlydir"
_ASIDE: Final = "damaged-"
_KEPT: Final = 3
_CONTROL_SECONDS: Final = 10.0
_LONGEST_LINE: Final = 32


def set_aside(folder: Path) -> list[Path]:
    """Return what was set aside in Redis' folder, oldest first."""
    return sorted(path for path in folder.glob(f"{_ASIDE}*") if path.is_dir())


@dataclass(frozen=True)
class Repair:
    """Repairs the data in Redis' own ``folder``.

    ``command`` starts Redis with all options but folder and socket.
    """

    folder: Path
    command: Sequence[str]

    def __call__(self, failures: int) -> str | None:
        """Repair the data after Redis ended before it answered, ``failures`` times in a row.

        Return what was done; None if the data are not the cause.
        """
        data = self.folder / APPEND_ONLY
        if not data.is_dir() or not self._starts_without_data():
            return None
        aside = self._aside()
        if failures == 1 and (cut := list(_damaged(data))) and _copy(data, aside):
            lost = sum(_cut(file, length) for file, length in cut)
            done = f"{lost} bytes after the last complete command were removed"
        else:
            data.rename(aside)
            done = "Redis starts with an empty data set"
        for old in set_aside(self.folder)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return (
            f"Redis could not load its damaged data. A copy is kept in {aside}; {done}. Answers "
            "that were queued or running are queued again from the database."
        )

    def _aside(self) -> Path:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        names = (f"{_ASIDE}{now}-{number}" for number in range(1, 1000))
        return next(path for name in names if not (path := self.folder / name).exists())

    def _starts_without_data(self) -> bool:
        """Whether the same program with the same options starts in an empty folder."""
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as folder,
            tempfile.TemporaryDirectory() as sockets,
        ):
            socket = f"{sockets}/s"
            options = ("--dir", folder, "--unixsocket", socket, "--port", "0")
            try:
                server = subprocess.Popen(
                    [*self.command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            except OSError:
                return False
            try:
                return _answers(socket, server)
            finally:
                server.kill()
                server.wait()


def _answers(socket: str, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _CONTROL_SECONDS
    at_once = Retry(NoBackoff(), 0)
    with Redis(unix_socket_path=socket, socket_timeout=1, retry=at_once) as client:
        while server.poll() is None and time.monotonic() < deadline:
            try:
                return bool(client.ping())
            except RedisError:
                time.sleep(0.05)
    return False


def _copy(data: Path, aside: Path) -> bool:
    """Copy the data; False if the disk is full: then the data themselves must be moved."""
    try:
        shutil.copytree(data, aside)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        return False
    return True


def _cut(file: Path, length: int) -> int:
    """Truncate the file; return the number of removed bytes."""
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(length)
    return size - length


def _damaged(data: Path) -> Iterator[tuple[Path, int]]:
    """Yield the command files from the first damaged one on, with the length to truncate each to.

    Commands after a gap must not be replayed.
    """
    found = False
    for file in sorted(data.glob("*.incr.aof"), key=_number):
        length = 0 if found else whole_commands(file)
        if found or length < file.stat().st_size:
            found = True
            yield file, length


def _number(file: Path) -> int:
    """Return the number in the name: 12 for ``appendonly.aof.12.incr.aof``."""
    part = file.name.removesuffix(".incr.aof").rpartition(".")[2]
    return int(part) if part.isdigit() else 0


def whole_commands(file: Path) -> int:
    """Return the length in bytes of the complete commands at the start of a file.

    Commands are RESP arrays of bulk strings; lines that begin with # are annotations.
    """
    size = file.stat().st_size
    if size == 0:
        return 0
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = 0
        while (after := _command_end(data, end, size)) is not None:
            end = after
        return end


def _command_end(data: mmap.mmap, at: int, size: int) -> int | None:
    """Return the end of the command at ``at``; None if it is incomplete."""
    if data[at : at + 1] == b"#":
        newline = data.find(b"\n", at, size)
        return None if newline < 0 else newline + 1
    head = _line(data, at, b"*")
    if head is None or head[0] < 1:
        return None
    parts, at = head
    for _ in range(parts):
        part = _line(data, at, b"$")
        if part is None:
            return None
        length, start = part
        at = start + length + 2
        if length < 0 or at > size or data[at - 2 : at] != b"\r\n":
            return None
    return at


def _line(data: mmap.mmap, at: int, mark: bytes) -> tuple[int, int] | None:
    """Return the number in a line such as ``*3`` and the start of the next line, or None."""
    end = data.find(b"\r\n", at, at + _LONGEST_LINE)
    if end < 0 or data[at : at + 1] != mark:
        return None
    digits = data[at + 1 : end]
    return (int(digits), end + 2) if digits.isdigit() else None
