"""One file from its source to the disk: over several connections, resumed after any end, held
against its digest.

The source is asked for a piece first. If it answers with that piece, more connections fetch the
others; if it answers with the whole file, this is what is read. A thread follows the part that is
whole from the start and hashes it, so that little is left to do at the end.
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

from chatsite.errors import ChatsiteError
from models_admin import bulk
from models_admin.outside import FetchFailed
from models_admin.partial import Partial
from models_admin.sources.base import Blob, refusal

CONNECTIONS: Final = 4
STALL_SECONDS: Final = 30.0
# Rounds that bring nothing new before it is given up, and the pauses before them in seconds.
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_PAUSE: Final = 300.0
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
    message = _("The source has another version since the download began.")


class Stopped(Exception):
    """Somebody wants the transfer to end here; what has arrived stays."""


class Watcher(Protocol):
    """Whom a transfer tells how far it is, and who may end it."""

    leaving: threading.Event

    def tell(self, done: int, total: int) -> None: ...

    def say(self, code: str, **values: object) -> None: ...


def fill(
    partial: Partial, blob: Blob, watcher: Watcher, renew: Callable[[], Blob] | None = None
) -> str:
    """Brings ``partial`` from what it holds to the whole of ``blob``, flushed to disk; returns its
    SHA-256. ``renew`` asks the source again where its address or token may have expired.

    Raises `Stopped`, `FetchFailed`, `SourceRefused`, or `TransferRefused` when the content is
    not what the source published: nothing of it is kept then.
    """
    if partial.arrived:
        watcher.say("resumed", bytes=partial.arrived)
    hasher = _Hasher(partial)
    try:
        _fetch_all(partial, blob, watcher, renew)
        partial.save()
        digest = hasher.digest()
    finally:
        hasher.stop()
    if blob.digest and digest != blob.digest:
        partial.begin_anew()
        raise TransferRefused(
            _("The file is not what its source published (SHA-256 differs). Try again.")
        )
    watcher.tell(partial.size, partial.size)
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
            watcher.say("again", reason=str(error), seconds=round(seconds))
            if watcher.leaving.wait(seconds):
                raise Stopped from error
        except _Changed:
            partial.begin_anew()
            watcher.say("unlike")
            failures += 1
            if failures > len(PAUSES):
                raise FetchFailed(_("The file keeps changing at its source.")) from None
        except _Expired as error:
            if renew is None or (failures and partial.arrived <= before):
                raise refusal(error.status) from error
            failures = 1
            blob = renew()


class _Changed(Exception):
    """What arrived is of another content than what the source has now."""


class _Expired(Exception):
    """The address or its token is not good any more."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class _Hasher:
    """SHA-256 of a file while it arrives."""

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
                    return  # the digest will not fit, which says it all
                self._sha256.update(block)
                at += len(block)
            if at == self._partial.size:
                return
            self._ended.wait(_TICK)

    def digest(self) -> str:
        """Of the whole file, once it is there."""
        self._ended.set()
        self._thread.join()
        return self._sha256.hexdigest()

    def stop(self) -> None:
        self._stopped.set()
        self._ended.set()
        self._thread.join()


class _Round:
    """Connections side by side until every piece is here or none of them gets on."""

    def __init__(self, partial: Partial, blob: Blob, watcher: Watcher) -> None:
        self._partial = partial
        self._blob = blob
        self._watcher = watcher
        self._pieces = deque(partial.missing())
        self._bodies: set[bulk.Body] = set()
        self._ranged = False
        self._ending = False

    def run(self) -> None:
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="transfer") as pool:
            readers = [pool.submit(self._read_pieces)]
            while not all(reader.done() for reader in readers):
                if self._ranged and len(readers) == 1:
                    more = min(CONNECTIONS - 1, len(self._pieces))
                    readers += [pool.submit(self._read_pieces) for _one in range(more)]
                if self._watcher.leaving.wait(_TICK) or self._has_failed(readers):
                    self._end()
                self._watcher.tell(self._partial.arrived, self._partial.size)
        if self._watcher.leaving.is_set():
            raise Stopped
        errors = [error for error in (reader.exception() for reader in readers) if error]
        # What can't be helped by trying again comes first.
        for error in sorted(errors, key=lambda error: isinstance(error, FetchFailed)):
            raise error

    def _has_failed(self, readers: list[Future[None]]) -> bool:
        """For good: one connection that breaks leaves its piece to the others."""
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
        with bulk.get(
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

    def _read_whole(self, body: bulk.Body, buffer: memoryview) -> None:
        """The answer to another question: all of the file, from its beginning."""
        if self._partial.arrived:
            if self._partial.journal.tag:
                raise _Changed
            self._watcher.say("unlike")
            self._partial.begin_anew()
            self._pieces = deque(self._partial.missing())
        if self._pieces or self._partial.size > self._partial.journal.piece:
            self._watcher.say("single")
        self._pieces.clear()
        size = str(self._partial.size)
        if str(body.headers.get("Content-Length", size)) != size:
            raise TransferRefused(_("The file has another size than its source said."))
        self._read(body, 0, self._partial.size, buffer)
        with suppress(FetchFailed):
            if not self._ending and body.readinto(buffer[:1]):
                raise TransferRefused(_("The file is longer than its source said."))

    def _check(self, body: bulk.Body, start: int, end: int) -> None:
        """Raises unless ``body`` is the part that was asked for, of what arrived so far."""
        if body.status in _TEMPORARY:
            after = str(body.headers.get("Retry-After", ""))
            raise FetchFailed(
                str(_("The source answered with status %s.")) % body.status,
                retry_after=int(after) if after.isdecimal() else 0,
            )
        if body.status in _EXPIRED:
            raise _Expired(body.status)
        if body.status not in {200, 206}:
            raise refusal(body.status)
        expected = rf"bytes {start}-{end - 1}/(?:{self._partial.size}|\*)"
        if body.status == 200 or not re.fullmatch(
            expected, str(body.headers.get("Content-Range", ""))
        ):
            raise TransferRefused(_("The source sent another part than it was asked for."))
        journal = self._partial.journal
        if not self._partial.arrived:
            journal.tag = body.entity_tag
        elif journal.tag and body.entity_tag and journal.tag != body.entity_tag:
            raise _Changed

    def _read(self, body: bulk.Body, start: int, end: int, buffer: memoryview) -> None:
        while start < end and not self._ending:
            got = body.readinto(buffer[: min(len(buffer), end - start)])
            if not got:
                raise FetchFailed(_("The answer ended early."))
            self._partial.write(start, buffer[:got])
            start += got
