"""Download of one file: over several connections, resumable, checked against its digest.

A first connection requests one piece. If the server supports ranges, more connections fetch the
other pieces; if it sends the whole file, that response is read. A thread hashes the contiguous
prefix as it arrives, so that little is left to do at the end.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Protocol

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, worded
from chatsite.numbers import natural
from models_admin.sources import fetch
from models_admin.sources.base import Blob, refusal
from models_admin.sources.egress import FetchFailed
from models_admin.store.partial import Partial

CONNECTIONS: Final = 4
STALL_SECONDS: Final = 30.0
# Backoff in seconds between rounds. A transfer fails after this many retries in a row without
# progress.
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_PAUSE: Final = 300.0
_RETRY_SECONDS_MAX: Final = 3600
_BUFFER: Final = 1 << 20
_HASH_BLOCK: Final = 4 << 20
_TICK: Final = 0.1
_TEMPORARY: Final = {408, 425, 429, 500, 502, 503, 504}
_EXPIRED: Final = {401, 403}


class TransferRefused(ChatsiteError):
    code = "transfer_refused"
    status = 409
    message = _("This file can't be downloaded.")


class SourceChanged(ChatsiteError):
    code = "source_changed"
    status = 409
    permanent = False
    message = _("The file changed at the source during the download. Try again.")


class Stopped(Exception):
    """The watcher requested a stop. What has arrived is kept."""


class Watcher(Protocol):
    """Receives the progress of a transfer and can stop it."""

    stop_requested: threading.Event

    def report(self, done: int, total: int) -> None: ...

    def log(self, code: str, **values: object) -> None: ...


def fill(
    partial: Partial, blob: Blob, watcher: Watcher, renew: Callable[[], Blob] | None = None
) -> str:
    """Complete ``partial`` with the missing pieces of ``blob``, flush it, and return its SHA-256.

    ``renew`` asks the source again when its URL or token may have expired.

    Raises `Stopped`, `FetchFailed`, `SourceMissing`, `SourceRefused`, or `TransferRefused` if the
    content differs from what the source published; nothing of it is kept then.
    """
    if partial.arrived:
        watcher.log("resumed", bytes=partial.arrived)
    hasher = _Hasher(partial)
    try:
        _fetch_all(partial, blob, watcher, renew)
        partial.save()
        digest = hasher.digest()
    finally:
        hasher.stop()
    if blob.digest and digest != blob.digest:
        partial.restart()
        raise TransferRefused(
            _("The file does not match the checksum of its source (SHA-256). Try again.")
        )
    watcher.report(partial.size, partial.size)
    return digest


def _fetch_all(
    partial: Partial, blob: Blob, watcher: Watcher, renew: Callable[[], Blob] | None
) -> None:
    failures = 0
    while partial.missing():
        before = partial.arrived
        try:
            _Round(partial, blob, watcher).run()
        except FetchFailed as error:
            failures = failures + 1 if partial.arrived <= before else 1
            if failures > len(PAUSES):
                raise
            seconds = max(PAUSES[failures - 1], float(error.details.get("retry_after", 0)))
            seconds = min(seconds, _LONGEST_PAUSE)
            watcher.log("again", reason=str(error), seconds=round(seconds))
            if watcher.stop_requested.wait(seconds):
                raise Stopped from error
        except _Changed:
            partial.restart()
            watcher.log("unlike")
            failures += 1
            if failures > len(PAUSES):
                raise FetchFailed(_("The file keeps changing at its source.")) from None
        except _Expired as error:
            if renew is None or (failures and partial.arrived <= before):
                raise refusal(error.status) from error
            failures = 1
            blob = renew()


class _Changed(Exception):
    """The content at the source differs from what has arrived."""


class _Expired(Exception):
    """The URL or its token has expired."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class _Hasher:
    """SHA-256 of a file, computed while the file arrives."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._ended = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="sha256")
        self._thread.start()

    def _follow(self) -> None:
        epoch, at, self._sha256 = -1, 0, hashlib.sha256()
        while not self._stopped.is_set():
            if epoch != self._partial.epoch:
                epoch, at, self._sha256 = self._partial.epoch, 0, hashlib.sha256()
            end = self._partial.prefix
            while at < end and not self._stopped.is_set() and epoch == self._partial.epoch:
                block = os.pread(self._partial.descriptor, min(_HASH_BLOCK, end - at), at)
                if not block:
                    return  # a truncated file; the digest won't match
                self._sha256.update(block)
                at += len(block)
            if at == self._partial.size:
                return
            self._ended.wait(_TICK)

    def digest(self) -> str:
        """Return the digest of the whole file, once all of it has arrived."""
        self._ended.set()
        self._thread.join()
        return self._sha256.hexdigest()

    def stop(self) -> None:
        self._stopped.set()
        self._ended.set()
        self._thread.join()


class _Round:
    """Concurrent connections, until every piece has arrived or none of them makes progress."""

    def __init__(self, partial: Partial, blob: Blob, watcher: Watcher) -> None:
        self._partial = partial
        self._blob = blob
        self._watcher = watcher
        self._pieces = deque(partial.missing())
        self._bodies: set[fetch.Reply] = set()
        self._ranged = False
        self._ending = False

    def run(self) -> None:
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="transfer") as pool:
            readers = [pool.submit(self._read_pieces)]
            while not all(reader.done() for reader in readers):
                if self._ranged and len(readers) == 1:
                    more = min(CONNECTIONS - 1, len(self._pieces))
                    readers += [pool.submit(self._read_pieces) for _one in range(more)]
                if self._watcher.stop_requested.wait(_TICK) or self._has_failed(readers):
                    self._end()
                self._watcher.report(self._partial.arrived, self._partial.size)
        if self._watcher.stop_requested.is_set():
            raise Stopped
        errors = [error for error in (reader.exception() for reader in readers) if error]
        # Permanent errors take precedence over those that a retry may fix.
        for error in sorted(errors, key=lambda error: isinstance(error, FetchFailed)):
            raise error

    def _has_failed(self, readers: list[Future[None]]) -> bool:
        """Return whether an error is permanent.

        The pieces of a broken connection go to the others.
        """
        ended = [reader.exception() for reader in readers if reader.done()]
        return any(error is not None and not isinstance(error, FetchFailed) for error in ended)

    def _end(self) -> None:
        self._ending = True
        for body in tuple(self._bodies):
            body.abort()

    def _read_pieces(self) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        while not self._ending:
            try:
                piece = self._pieces.popleft()
            except IndexError:
                return
            try:
                self._read_piece(piece, buffer)
            except FetchFailed:
                self._pieces.appendleft(piece)
                raise

    def _read_piece(self, piece: int, buffer: memoryview) -> None:
        start, end = self._partial.gap(piece)
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self._partial.journal.tag:
            headers["If-Range"] = self._partial.journal.tag
        with fetch.get(
            self._blob.url, headers=headers, token=self._blob.token, stall_seconds=STALL_SECONDS
        ) as body:
            self._bodies.add(body)
            try:
                if body.status == 200 and not self._ranged:
                    self._read_whole(body, buffer)
                else:
                    self._check(body, start, end)
                    self._ranged = True
                    self._read(body, start, end, buffer)
            finally:
                self._bodies.discard(body)

    def _read_whole(self, body: fetch.Reply, buffer: memoryview) -> None:
        """Read a response that ignores the range: the whole file, from its beginning."""
        if self._partial.arrived:
            if self._partial.journal.tag:
                raise _Changed
            self._watcher.log("unlike")
            self._partial.restart()
            self._pieces = deque(self._partial.missing())
        if self._pieces or self._partial.size > self._partial.journal.piece:
            self._watcher.log("single")
        self._pieces.clear()
        size = str(self._partial.size)
        if (body.header("Content-Length") or size) != size:
            raise TransferRefused(_("The file has a different size than its source announced."))
        self._read(body, 0, self._partial.size, buffer)
        with suppress(FetchFailed):
            if not self._ending and body.readinto(buffer[:1]):
                raise TransferRefused(_("The file is larger than its source announced."))

    def _check(self, body: fetch.Reply, start: int, end: int) -> None:
        """Raise unless ``body`` is the requested range of the content that has arrived so far."""
        if body.status in _TEMPORARY:
            after = body.header("Retry-After")
            raise FetchFailed(
                worded(
                    _("The source responded with HTTP status %s. Try again later."), body.status
                ),
                retry_after=natural(after, _RETRY_SECONDS_MAX) or 0,
            )
        if body.status in _EXPIRED:
            raise _Expired(body.status)
        if body.status not in {200, 206}:
            raise refusal(body.status)
        expected = rf"bytes {start}-{end - 1}/(?:{self._partial.size}|\*)"
        if body.status == 200 or not re.fullmatch(expected, body.header("Content-Range")):
            raise TransferRefused(_("The source sent a different range than requested."))
        journal = self._partial.journal
        if not self._partial.arrived:
            journal.tag = body.entity_tag
        elif journal.tag and body.entity_tag and journal.tag != body.entity_tag:
            raise _Changed

    def _read(self, body: fetch.Reply, start: int, end: int, buffer: memoryview) -> None:
        while start < end and not self._ending:
            got = body.readinto(buffer[: min(len(buffer), end - start)])
            if not got:
                raise FetchFailed(_("The response ended early."))
            self._partial.write(start, buffer[:got])
            start += got
