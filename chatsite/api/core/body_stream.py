"""A request's body, read while it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

# Extension of the ASGI scope: the `BodyStream` of a request that has a body.
EXTENSION: Final = "chatsite.body"
# Unread bytes at which reading from the client is paused.
_MOST: Final = 256 << 10


class Broken(Exception):
    """The client disconnected before the end of its body."""


class TooSlow(Exception):
    """The body arrived more slowly than the timeout allows."""


class BodyStream:
    """A buffer between a connection, which writes, and the application, which reads.

    Both run on one event loop. ``pause`` and ``resume`` stop and start reading from the client.
    ``begin`` is called before the first read, to send what the client waits for before its body
    (100 Continue).
    """

    def __init__(
        self,
        pause: Callable[[], None],
        resume: Callable[[], None],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._pause, self._resume, self._begin = pause, resume, begin
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = self._begun = False
        self._failure: type[Exception] | None = None
        self._news = asyncio.Event()

    @property
    def waits(self) -> bool:
        """Return whether the application is waiting for the client rather than the reverse."""
        return self._begun and not self._chunks and not self._ended and self._failure is None

    def put(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= _MOST:
            self._pause()
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def fail(self, failure: type[Exception] = Broken) -> None:
        self._failure = failure
        self._news.set()

    async def read(self) -> bytes:
        """Return the bytes that have arrived, a few hundred KiB at most; empty at the end.

        Raises `Broken` or `TooSlow`.
        """
        if not self._begun:
            self._begun = True
            self._begin()
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._resume()
        return data


def of(scope: Mapping[str, Any]) -> BodyStream | None:
    """Return the body of a request; None if it has none or another server runs the application."""
    found: BodyStream | None = scope.get("extensions", {}).get(EXTENSION)
    return found
