"""A file's text, read in a child process that may not take more than it is given."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from chatsite.chat.attachments.errors import UNREADABLE, ReadersBusy, TooComplex, Unreadable
from chatsite.chat.attachments.formats import Document
from chatsite.engine.spawn import ROOT, environment

log = logging.getLogger(__name__)

# Of processor time; by the clock twice as much, since other work goes first.
READ_SECONDS: Final = 20
MEMORY_MB: Final = 768
AT_ONCE: Final = 2
_WAIT_SECONDS: Final = 30.0
_BYTES_PER_CHAR: Final = 4
_HEAD_BYTES: Final = 4096


@asynccontextmanager
async def place(places: asyncio.Semaphore) -> AsyncIterator[None]:
    """Bounds how many files are held and read at once. Raises `ReadersBusy`."""
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            await places.acquire()
    except TimeoutError:
        raise ReadersBusy from None
    try:
        yield
    finally:
        places.release()


async def extract(data: bytes, most: int, *, seconds: int = READ_SECONDS) -> Document:
    """The text of a file, of at most ``most`` characters. Raises `Unreadable`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatsite.chat.attachments.reader"),
        *(str(most), str(seconds), str(MEMORY_MB)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd=ROOT,
        env=environment(),
    )
    feeding = asyncio.create_task(_feed(process, data))
    try:
        async with asyncio.timeout(2 * seconds):
            answer = await _answer(process, most * _BYTES_PER_CHAR + _HEAD_BYTES)
    except TimeoutError:
        raise TooComplex from None
    finally:
        feeding.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    head, newline, text = answer.partition(b"\n")
    if not newline:
        log.warning("a reader ended without an answer (%s)", process.returncode)
        raise TooComplex
    found = json.loads(head)
    if "error" in found:
        log.info("a file can't be read: %s %s", found["error"], found["why"])
        raise UNREADABLE.get(found["error"], Unreadable)(limit=most)
    return Document(found["kind"], text.decode(errors="replace"), found["pages"])


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None  # noqa: S101  (it was asked for)
    with suppress(ConnectionError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _answer(process: Process, most: int) -> bytes:
    assert process.stdout is not None  # noqa: S101
    answer = bytearray()
    while len(answer) <= most and (part := await process.stdout.read(1 << 16)):
        answer += part
    return bytes(answer)
