"""The text of a file, extracted in a child process with limited time and memory."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Final

from django.utils.formats import number_format

from chatsite.documents.errors import UNREADABLE, TooComplex, Unreadable
from chatsite.documents.formats import Document
from chatsite.sandbox.spawn import ROOT, environment

log = logging.getLogger(__name__)

# CPU time; the wall time limit is twice as much, since the child has low priority.
READ_SECONDS: Final = 20
MEMORY_MB: Final = 768
AT_ONCE: Final = 2
# Longer than another file of the same user may take.
WAIT_SECONDS: Final = 60.0
_BYTES_PER_CHAR: Final = 4
# The starts of 100,000 pages.
_HEAD_BYTES: Final = 1 << 20


async def extract(data: bytes, most: int, *, seconds: int = READ_SECONDS) -> Document:
    """Return the text of a file, of at most ``most`` characters. Raises `Unreadable`."""
    process = await asyncio.create_subprocess_exec(
        *_command(most, seconds),
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
    return _document(answer, most, process.returncode)


def read(data: bytes, most: int, *, seconds: int = READ_SECONDS) -> Document:
    """Return the text of a file as a reader sees it, from a thread. Raises `Unreadable`."""
    try:
        done = subprocess.run(
            [*_command(most, seconds), "rendered"],
            input=data,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd=ROOT,
            env=environment(),
            timeout=2 * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TooComplex from None
    return _document(done.stdout, most, done.returncode)


def _command(most: int, seconds: int) -> list[str]:
    reader = [sys.executable, "-m", "chatsite.documents.reader"]
    return [*reader, str(most), str(seconds), str(MEMORY_MB)]


def _document(answer: bytes, most: int, returncode: int | None) -> Document:
    """Return what the child answered. Raises `Unreadable`."""
    head, newline, text = answer.partition(b"\n")
    if not newline:
        log.warning("Document reader failed", extra={"returncode": returncode})
        raise TooComplex
    found = json.loads(head)
    if "error" in found:
        log.info("Document can't be read", extra={"error": found["error"], "reason": found["why"]})
        raise UNREADABLE.get(found["error"], Unreadable)(
            limit=number_format(most, force_grouping=True)
        )
    return Document(
        found["kind"],
        text.decode(errors="replace"),
        found["pages"],
        tuple((code, values) for code, values in found["notes"]),
        tuple(found["page_starts"]),
        found["title"],
    )


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None  # noqa: S101  (PIPE is set)
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
