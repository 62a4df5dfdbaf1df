"""One log stream from the pipes of all children.

A thread writes from a bounded queue: if the reader of the output is slow or gone, lines are
dropped and counted. The children's pipes are always drained, so they never block.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import re
import select
import sys
import threading
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec

from chatsite import logs

QUEUED_LINES = 10_000
_NEEDED = ("time", "process", "level", "message")
_LINE_MAX_BYTES = 256 * 1024
_CHUNK_BYTES = 64 * 1024
# "12:M 23 Nov 2026 19:45:07.977 # Ready to exit": process id, role, time, level, text.
_REDIS_LINE = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ ([.\-*#]) (.*)$")
_REDIS_LEVELS = {".": "DEBUG", "-": "DEBUG", "*": "INFO", "#": "WARNING"}
# What Redis 7.0 logs at each start and end, at its highest level.
_REDIS_ROUTINE = re.compile(
    r"oO0Oo|Redis version=|Configuration loaded|Server initialized|User requested shutdown"
    r"|Redis is now ready to exit"
)


def parse(line: str, process: str, now: float) -> dict[str, Any]:
    """Parse a line of a child: the product's JSON, Redis's format, or any text of ``process``."""
    if line.startswith("{"):
        try:
            entry = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            entry = {}
        if _is_entry(entry):
            return entry
    level, message = "INFO", line
    if process == "redis" and (found := _REDIS_LINE.match(line)):
        level, message = _REDIS_LEVELS[found[1]], found[2]
        if _REDIS_ROUTINE.match(message):
            level = "DEBUG"
    return {
        "time": logs.timestamp(now),
        "process": process,
        "level": level,
        "message": message,
    }


def _is_entry(entry: dict[str, Any]) -> bool:
    if not all(isinstance(entry.get(key), str) for key in _NEEDED):
        return False
    try:
        datetime.fromisoformat(entry["time"])
    except ValueError:
        return False
    return True


async def lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the non-blank lines without line ends.

    A line longer than ``_LINE_MAX_BYTES`` is yielded in pieces.
    """
    rest = b""
    while chunk := await reader.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if text := line.decode("utf-8", "replace").rstrip():
                yield text
        if len(rest) > _LINE_MAX_BYTES:
            yield rest.decode("utf-8", "replace")
            rest = b""
    if rest:
        yield rest.decode("utf-8", "replace")


def _severity(level: str) -> int:
    return logging.getLevelNamesMapping().get(level, logging.CRITICAL)


class Output:
    """Writes entries of at least ``level`` to the file descriptor ``target``.

    ``put`` never blocks and never raises.
    """

    def __init__(self, *, as_json: bool, level: str = "INFO", target: int | None = None) -> None:
        self._target = sys.stdout.fileno() if target is None else target
        self._least = _severity(level)
        self._as_json = as_json
        self._terminal = not as_json and os.isatty(self._target)
        self._lines: queue.Queue[bytes | None] = queue.Queue(QUEUED_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log-output", daemon=True)
        self._thread.start()

    def put(self, entry: logs.Entry) -> None:
        if _severity(entry["level"]) < self._least:
            return
        text = logs.to_json(entry) if self._as_json else logs.to_text(entry, self._terminal)
        self._enqueue(text)

    def say(self, message: str, level: str = "INFO", **fields: object) -> None:
        """Log a line of the supervisor itself: a constant message and its values."""
        self.put({**self._own(message, level), **fields})

    def announce(self, message: str) -> None:
        """Write a line that users act on; as plain text unless the stream is JSON."""
        if self._as_json:
            self.say(message)
        else:
            self._enqueue(message)

    def close(self, seconds: float = 1.0) -> None:
        """Wait for the queued lines, at most ``seconds`` for a reader that is stuck."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    @staticmethod
    def _own(message: str, level: str) -> dict[str, Any]:
        return {
            "time": logs.timestamp(time.time()),
            "process": "up",
            "level": level,
            "message": message,
        }

    def _enqueue(self, text: str) -> None:
        if self._dropped and not self._lines.full():
            lost, self._dropped = self._dropped, 0
            self.say("Log lines dropped: the reader is too slow", "WARNING", lines=lost)
        try:
            self._lines.put_nowait(f"{text}\n".encode("utf-8", "replace"))
        except queue.Full:
            self._dropped += 1

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
            except OSError:
                # The reader is gone for good; keep draining the queue.
                while self._lines.get() is not None:
                    pass
                return

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            try:
                view = view[os.write(self._target, view) :]
            except BlockingIOError:
                select.select([], [self._target], [])
