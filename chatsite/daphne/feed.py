"""A request's body while it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

# Extensions of the ASGI scope: the `Feed`, and that a body was too large to be taken.
EXTENSION: Final = "chatsite.body"
REFUSED: Final = "chatsite.too_large"
# Bytes that wait for the application before the client is no longer listened to.
_MOST: Final = 1 << 20


class Broken(Exception):
    """The client left before the end of its body."""


class Feed:
    """What a connection puts in, an application reads; both on one event loop. ``pause`` and
    ``resume`` stop and start reading from the client."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = self._broken = False
        self._news = asyncio.Event()

    def put(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= _MOST:
            self._pause()
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def fail(self) -> None:
        self._broken = True
        self._news.set()

    async def read(self) -> bytes:
        """What has arrived since, at most a little more than a MiB; empty at the end. Raises
        `Broken`."""
        while not self._chunks:
            if self._broken:
                raise Broken
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._resume()
        return data


def of(scope: Mapping[str, Any]) -> Feed | None:
    """That of a request to an address whose bodies are read as they arrive."""
    found: Feed | None = scope.get("extensions", {}).get(EXTENSION)
    return found


def is_refused(scope: Mapping[str, Any]) -> bool:
    return REFUSED in scope.get("extensions", {})
