"""A file that is arriving: its bytes, and a journal of the pieces that are on disk.

`models/partial/<digest>.part` is allocated in full from the start; `<digest>.json` records the
bytes of each piece. The journal is written after the bytes that it covers were flushed, so it is
also correct after a power failure. A writer holds a lock on the file.
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
from models_admin.store import disk

# Small enough for four connections to share a 100 MB file, large enough for few requests.
PIECE_BYTES: Final = 16 << 20
_SAVE_SECONDS: Final = 5.0
_BLOCK_BYTES: Final = 512  # the unit of `st_blocks`


class PartialBusy(ChatsiteError):
    code = "partial_busy"
    status = 409
    permanent = False
    message = _("Another process is already downloading this file. Wait for it to finish.")


class Journal(msgspec.Struct):
    """The state of a partial file.

    ``arrived`` holds the bytes received of each piece of ``piece`` bytes; ``tag`` is the source's
    validator.
    """

    size: int
    piece: int
    arrived: list[int]
    tag: str = ""


class Partial:
    """A file that is arriving, with one or more writer threads in this process."""

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        self.descriptor = descriptor
        self.path = path
        self.size = size
        self._journal_path = path.with_suffix(".json")
        self._saved = time.monotonic()
        self._changed = threading.Lock()
        self._saving = threading.Lock()
        self.journal = self._read() or self._empty()
        # Incremented each time that all received bytes are discarded.
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
        """Return the number of bytes received, in any order."""
        return sum(self.journal.arrived)

    @property
    def prefix(self) -> int:
        """Return the number of contiguous bytes from the start of the file."""
        prefix = 0
        for got, length in zip(
            self.journal.arrived, self._lengths(self.journal.piece), strict=True
        ):
            prefix += got
            if got < length:
                break
        return prefix

    def missing(self) -> list[int]:
        """Return the incomplete pieces, in order."""
        lengths = self._lengths(self.journal.piece)
        return [i for i, length in enumerate(lengths) if self.journal.arrived[i] < length]

    def gap(self, piece: int) -> tuple[int, int]:
        """Return the range of missing bytes of the piece: the first, and the end (exclusive)."""
        start = piece * self.journal.piece
        return start + self.journal.arrived[piece], min(start + self.journal.piece, self.size)

    def write(self, at: int, block: memoryview) -> None:
        """Write ``block`` at offset ``at``, which must follow what has arrived of its piece.

        The block may reach into the next pieces.
        """
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
        """Flush, then save the journal as it was before the flush."""
        with self._saving:  # a flush may take longer than `_SAVE_SECONDS`
            with self._changed:
                data = msgspec.json.encode(self.journal)
            os.fdatasync(self.descriptor)
            fresh = self._journal_path.with_suffix(".new")
            fresh.write_bytes(data)
            os.replace(fresh, self._journal_path)

    def restart(self, tag: str = "") -> None:
        """Discard all received bytes."""
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
    """Yield the locked partial file of the content ``digest``.

    It is kept if the block fails, and removed if it succeeds. Raises `PartialBusy` and `DiskFull`.
    """
    path = folder() / f"{digest}.part"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PartialBusy from error
        if os.fstat(descriptor).st_nlink == 0:
            raise PartialBusy  # removed by `clean` before it was locked
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
    """Allocate the disk space now, so that concurrent transfers don't count on the same space."""
    status = os.fstat(partial.descriptor)
    if status.st_size != partial.size:
        partial.restart()
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
    """Remove all partial files except those in ``keep`` and those being written.

    Return the names of the removed files.
    """
    gone = []
    for path in folder().glob("*.part"):
        if path.stem in keep:
            continue
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:
                continue  # completed meanwhile; the name may belong to a new file
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
            gone.append(path.name)
    return gone
