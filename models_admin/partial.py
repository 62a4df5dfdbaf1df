"""A file that is arriving: its bytes, and a journal of the pieces of it that are on the disk.

`models/partial/<digest>.part` has room for all of it from the start; `<digest>.json` tells how far
each piece is. The journal is written after the bytes that it speaks of were flushed, so that it is
true after a power cut too. Whoever writes holds a lock on the file.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError
from models_admin import disk

# Small enough that four connections share a file of 100 MB, large enough to ask seldom.
PIECE_BYTES: Final = 16 << 20
_SAVE_SECONDS: Final = 5.0
_BLOCK_BYTES: Final = 512  # the unit of `st_blocks`


class PartialBusy(ChatsiteError):
    code = "partial_busy"
    status = 409
    permanent = False
    message = _("Another process is bringing this file.")


class Journal(msgspec.Struct):
    """``arrived`` are bytes of each piece of ``piece`` bytes; ``tag`` the source's validator."""

    size: int
    piece: int
    arrived: list[int]
    tag: str = ""


class Partial:
    """One file that is arriving, for several writers of this process."""

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        self.descriptor = descriptor
        self.path = path
        self.size = size
        self._journal_path = path.with_suffix(".json")
        self._saved = time.monotonic()
        self._changed = threading.Lock()
        self._saving = threading.Lock()
        self.journal = self._read() or self._empty()
        # Rises each time that all which had arrived is forgotten.
        self.epoch = 0

    def _read(self) -> Journal | None:
        try:
            found = msgspec.json.decode(self._journal_path.read_bytes(), type=Journal)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        lengths = self._lengths(found.piece) if found.piece > 0 else []
        fits = (
            found.size == self.size
            and len(found.arrived) == len(lengths)
            and all(0 <= got <= length for got, length in zip(found.arrived, lengths, strict=True))
            and os.fstat(self.descriptor).st_size == self.size
        )
        return found if fits else None

    def _empty(self) -> Journal:
        return Journal(self.size, PIECE_BYTES, [0] * len(self._lengths(PIECE_BYTES)))

    def _lengths(self, piece: int) -> list[int]:
        return [min(piece, self.size - start) for start in range(0, self.size, piece)]

    @property
    def arrived(self) -> int:
        """Bytes that are here, in whatever order."""
        return sum(self.journal.arrived)

    @property
    def prefix(self) -> int:
        """Bytes from the start of the file without a gap."""
        prefix = 0
        for got, length in zip(
            self.journal.arrived, self._lengths(self.journal.piece), strict=True
        ):
            prefix += got
            if got < length:
                break
        return prefix

    def missing(self) -> list[int]:
        """Pieces that are not whole, in order."""
        lengths = self._lengths(self.journal.piece)
        return [i for i, length in enumerate(lengths) if self.journal.arrived[i] < length]

    def gap(self, piece: int) -> tuple[int, int]:
        """First missing byte of the piece, and the one after its last."""
        start = piece * self.journal.piece
        return start + self.journal.arrived[piece], min(start + self.journal.piece, self.size)

    def write(self, at: int, block: memoryview) -> None:
        """Puts ``block``, which follows what has arrived of the piece that ``at`` is in and may
        reach into the next ones, in its place."""
        os.pwrite(self.descriptor, block, at)
        end = at + len(block)
        with self._changed:
            while at < end:
                piece = at // self.journal.piece
                _first, last = self.gap(piece)
                taken = min(end, last) - at
                self.journal.arrived[piece] += taken
                at += taken
            due = time.monotonic() - self._saved > _SAVE_SECONDS
            if due:
                self._saved = time.monotonic()
        if due:
            self.save()

    def save(self) -> None:
        """Flushes, then writes down what was there before the flush."""
        with self._saving:  # a disk may take longer to flush than the time between two of these
            with self._changed:
                data = msgspec.json.encode(self.journal)
            os.fdatasync(self.descriptor)
            fresh = self._journal_path.with_suffix(".new")
            fresh.write_bytes(data)
            os.replace(fresh, self._journal_path)

    def begin_anew(self, tag: str = "") -> None:
        """Forgets all that has arrived."""
        with self._changed:
            self.journal = self._empty()
            self.journal.tag = tag
            self.epoch += 1
        self._journal_path.unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)


def folder() -> Path:
    path = disk.folder() / "partial"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


@contextmanager
def hold(digest: str, size: int) -> Iterator[Partial]:
    """The partial file of the content ``digest``, locked. It stays behind when the block fails,
    and is removed at its end. Raises `PartialBusy` and `DiskFull`."""
    path = folder() / f"{digest}.part"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PartialBusy from error
        if os.fstat(descriptor).st_nlink == 0:
            raise PartialBusy  # it was cleaned up in this moment
        partial = Partial(descriptor, path, size)
        _reserve(partial)
        try:
            yield partial
        except BaseException:
            if path.exists():
                partial.save()
            raise
        partial.remove()
    finally:
        os.close(descriptor)


def _reserve(partial: Partial) -> None:
    """Takes the space on the disk now, so that two that arrive at once don't both count on it."""
    status = os.fstat(partial.descriptor)
    if status.st_size != partial.size:
        partial.begin_anew()
        os.ftruncate(partial.descriptor, 0)
        status = os.fstat(partial.descriptor)
    try:
        disk.require_space(max(partial.size - status.st_blocks * _BLOCK_BYTES, 0))
        if partial.size:
            os.posix_fallocate(partial.descriptor, 0, partial.size)
    except (OSError, disk.DiskFull) as error:
        if not partial.arrived:
            partial.remove()
        if isinstance(error, OSError):
            raise disk.DiskFull from error
        raise


def clean(keep: Collection[str]) -> list[str]:
    """Removes the partial files of all digests but ``keep``, except those being written; returns
    the names of the files that are gone."""
    gone = []
    for path in folder().glob("*.part"):
        if path.stem in keep:
            continue
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:
                continue  # it arrived meanwhile, and another may have its name by now
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
            gone.append(path.name)
    return gone
