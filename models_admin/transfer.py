"""One file from its source to the disk, resumed after any end, held against its digest.

The bytes go to `models/<digest>.part`, under the lock that keeps `store.clean_partials` away.
A process that is killed leaves the file; the next transfer of the same content goes on behind
what is there. Nothing is offered from here: `store.import_file` takes the whole file in.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError
from models_admin import fetch, store
from models_admin.sources.base import Blob, failed

_BLOCK: Final = 4 << 20
# Attempts that bring nothing new before it is given up, and the pauses before them in seconds.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_PAUSE: Final = 300.0
_TEMPORARY: Final = {408, 425, 429, 500, 502, 503, 504}


class TransferRefused(ChatsiteError):
    code = "transfer_refused"
    status = 409
    message = _("This file can't be downloaded.")


@contextmanager
def partial(blob: Blob) -> Iterator[tuple[BinaryIO, Path]]:
    """The locked partial file of ``blob``; it stays behind when the block fails. Raises
    `TransferRefused` while another process has it, and `DiskFull`."""
    path = store.folder() / f"{blob.digest}.part"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TransferRefused(_("Another process is downloading this file.")) from error
        if os.fstat(descriptor).st_nlink == 0:
            raise TransferRefused(_("The partial file was cleaned up. Try again."))
        if shutil.disk_usage(path.parent).free < blob.size - path.stat().st_size + store.RESERVE:
            raise store.DiskFull
        yield file, path
        path.unlink(missing_ok=True)


async def fill(file: BinaryIO, blob: Blob, progress: store.Progress) -> None:
    """Brings ``file`` from what it holds to the whole of ``blob``, flushed to disk. Raises
    `TransferRefused` when the content is not what the source published: the file is then
    empty, to begin anew."""
    sha256 = hashlib.sha256()
    file.seek(0)
    while block := await asyncio.to_thread(file.read, _BLOCK):
        await asyncio.to_thread(sha256.update, block)
    failures = 0
    while (done := file.tell()) < blob.size:
        progress(done, blob.size)
        try:
            sha256 = await _attempt(file, blob, sha256, progress)
        except fetch.FetchFailed as error:
            failures = failures + 1 if file.tell() <= done else 1
            if failures > len(_PAUSES):
                raise
            asked = float(error.details.get("retry_after", 0))
            await asyncio.sleep(min(max(_PAUSES[failures - 1], asked), _LONGEST_PAUSE))
    file.flush()
    await asyncio.to_thread(os.fsync, file.fileno())
    if file.tell() != blob.size or sha256.hexdigest() != blob.digest:
        file.seek(0)
        file.truncate()
        raise TransferRefused(
            _("The file is not what its source published (SHA-256 differs). Try again.")
        )
    progress(blob.size, blob.size)


async def _attempt(
    file: BinaryIO, blob: Blob, sha256: hashlib._Hash, progress: store.Progress
) -> hashlib._Hash:
    """One request for what is missing; returns the hash of all that the file then holds."""
    start = file.tell()
    headers = {"Range": f"bytes={start}-"} if start else {}
    async with fetch.stream(blob.url, headers=headers, token=blob.token) as reply:
        if start and reply.status == 200:
            # The answer to another question: the whole file, from its beginning.
            file.seek(0)
            file.truncate()
            sha256 = hashlib.sha256()
        elif start and reply.status == 206:
            expected = rf"bytes {start}-{blob.size - 1}/(?:{blob.size}|\*)"
            if not re.fullmatch(expected, reply.headers.get("Content-Range", "")):
                raise TransferRefused(_("The source sent another part than it was asked for."))
        elif reply.status in _TEMPORARY:
            after = reply.headers.get("Retry-After", "")
            message = str(_("The source answered with status %s.")) % reply.status
            seconds = int(after) if after.isdecimal() else 0
            raise fetch.FetchFailed(message, retry_after=seconds)
        elif reply.status != 200:
            raise failed(reply)
        async for block in reply.blocks():
            if file.tell() + len(block) > blob.size:
                raise TransferRefused(_("The file is longer than its source said."))
            await asyncio.to_thread(file.write, block)
            await asyncio.to_thread(sha256.update, block)
            progress(file.tell(), blob.size)
    if file.tell() < blob.size:
        raise fetch.FetchFailed(_("The answer ended early."))
    return sha256
