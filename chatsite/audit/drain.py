"""Moves events from the spool files of this machine into the chain.

A thread of the web server does it each second (`start`); a page or command that wants the newest
events calls `drain` itself. A lock on the folder elects one drainer per machine, and the row lock
on the head of the chain orders those of several machines. The offset of a file is committed
together with its events, so a crash neither loses nor repeats any.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from django.conf import settings
from django.db import DatabaseError, close_old_connections, transaction

from chatsite import planner_statistics
from chatsite.audit import chain, forward, record, spool
from chatsite.audit.models import Event, SpoolFile
from chatsite.audit.record import Recorded

log = logging.getLogger(__name__)

_BATCH: Final = 100
# Bytes of each file that are read for a batch.
_READ_BYTES: Final = 256 << 10
PERIOD_SECONDS: Final = 1.0
# A short pause between batches leaves the interpreter to the event loop.
_PAUSE: Final = 0.005
# The time of the last success is updated at least as often while there is nothing to do.
_MARK_SECONDS: Final = 10.0
_BACKOFF_MOST: Final = 15.0
_LOCK: Final = "drain.lock"

_decode = msgspec.json.Decoder(Recorded).decode


class _Line(msgspec.Struct, frozen=True):
    """A line of a spool file, which ends at ``end``; ``event`` is None if it can't be read."""

    name: str
    end: int
    event: Recorded | None
    time: int


def drain(*, wait: float = 2.0, pause: float = 0.0) -> bool:
    """Move all events that are in the spool now.

    Return whether that was done: False if another drainer has not finished after ``wait`` seconds.
    Raises `DatabaseError` and `OSError`.
    """
    path = spool.folder(Path(settings.DATA_DIR))
    if not path.is_dir():
        return True
    with election(path, wait) as elected:
        if elected:
            moved = 0
            while lines := _move(path):
                moved += lines
                time.sleep(pause)
            if moved >= planner_statistics.MANY_ROWS:
                planner_statistics.refresh(Event)
            _delete_finished(path)
            _mark(path)
    return elected


def stored_at(path: Path) -> float:
    """Return when the spool was last seen to be stored completely; 0 for never."""
    try:
        return (path / _LOCK).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _mark(path: Path) -> None:
    os.utime(path / _LOCK)


@contextlib.contextmanager
def election(path: Path, wait: float) -> Iterator[bool]:
    deadline = time.monotonic() + wait
    file = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.02)
        yield True
    finally:
        os.close(file)


def _move(path: Path) -> int:
    """Move one batch in one transaction; return how many lines it had."""
    names = [file.name for file in _files(path)]
    if not names:
        return 0
    with transaction.atomic():
        locked = chain.head(lock=True)
        offsets = dict(SpoolFile.objects.filter(name__in=names).values_list("name", "offset"))
        queues = [_lines(path, name, offsets.get(name, 0)) for name in names]
        merged = heapq.merge(*queues, key=lambda line: line.time)
        batch = [line for line, _number in zip(merged, range(_BATCH), strict=False)]
        if not batch:
            return 0
        events = [line.event for line in batch if line.event is not None]
        if events:
            chain.append(events, locked)
        SpoolFile.objects.bulk_create(
            [
                SpoolFile(name=name, offset=end)
                for name, end in {line.name: line.end for line in batch}.items()
            ],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["offset"],
        )
    if len(events) < len(batch):
        unreadable = len(batch) - len(events)
        log.warning("Unreadable lines in the audit spool", extra={"count": unreadable})
    return len(batch)


def _files(path: Path) -> list[Path]:
    return sorted(path.glob(f"*{spool.SUFFIX}"))


def _lines(path: Path, name: str, offset: int) -> Iterator[_Line]:
    """Yield the complete lines after ``offset``.

    The order of a file is kept: ``time`` never decreases, even if the clock was set back.
    """
    try:
        with (path / name).open("rb") as file:
            file.seek(offset)
            data = file.read(_READ_BYTES)
    except FileNotFoundError:
        return
    latest = 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        offset += len(line)
        try:
            event = _decode(line)
        except msgspec.DecodeError:
            event = None
        latest = max(latest, event.time if event else 0)
        yield _Line(name, offset, event, latest)


def _delete_finished(path: Path) -> None:
    """Delete files that were moved completely and that no process appends to."""
    for file in _files(path):
        with file.open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            data_end = os.fstat(handle.fileno()).st_size
            moved = SpoolFile.objects.filter(name=file.name).values_list("offset", flat=True)
            offset = moved.first() or 0
            handle.seek(offset)
            # What is left of a file whose process is dead can only be a fragment of a line.
            if b"\n" in handle.read(_READ_BYTES) or data_end - offset >= _READ_BYTES:
                continue
        file.unlink(missing_ok=True)
        SpoolFile.objects.filter(name=file.name).delete()


class Drainer(threading.Thread):
    """Drains and forwards until the process ends.

    ``patience``: events younger than that many seconds are left to another process.
    """

    def __init__(self, patience: float = 0.0) -> None:
        super().__init__(name="audit-drain", daemon=True)
        self._patience = patience
        self._sizes: dict[str, int] = {}
        self._failing = False
        self._ended = threading.Event()

    def run(self) -> None:
        delay = PERIOD_SECONDS
        while not self._ended.wait(delay):
            try:
                self.work()
            except Exception as error:  # noqa: BLE001  (events wait in the spool)
                delay = min(_BACKOFF_MOST, delay * 2)
                self.fail(error)
            else:
                delay = PERIOD_SECONDS
                if self._failing:
                    self._failing = False
                    log.warning("Audit events can be stored again")
            finally:
                close_old_connections()

    def stop(self) -> None:
        self._ended.set()

    def work(self) -> None:
        record.spool().flush()
        path = spool.folder(Path(settings.DATA_DIR))
        sizes = _sizes(path)
        if sizes == self._sizes:
            if sizes and time.time() - stored_at(path) > _MARK_SECONDS:
                _mark(path)
        elif not self._is_for_others(path) and drain(wait=0, pause=_PAUSE):
            self._sizes = sizes
        forward.send_new()

    def _is_for_others(self, path: Path) -> bool:
        ages = [time.time() - file.stat().st_mtime for file in _files(path)]
        return bool(ages) and max(ages) < self._patience

    def fail(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            held = spool.size(spool.folder(Path(settings.DATA_DIR)))
            log.error(
                "Audit events can't be stored; they wait in the spool",
                exc_info=error if not isinstance(error, DatabaseError) else None,
                extra={"error": error, "spool_bytes": held},
            )


def _sizes(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for file in _files(path):
        with contextlib.suppress(FileNotFoundError):
            found[file.name] = file.stat().st_size
    return found


def start(patience: float = 0.0) -> Drainer:
    drainer = Drainer(patience)
    drainer.start()
    return drainer
