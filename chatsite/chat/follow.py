"""One socket following one generation: turns the feed into events at the socket's own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from chatsite.chat.protocol import Alive, AnyEvent, Delta, Started, Waiting
from chatsite.stream.hub import QUIET_SECONDS, GenerationFeed

# Daphne never waits for a slow reader: unacknowledged text is held in this process's memory.
MAX_UNACKNOWLEDGED_CHARS = 256 * 1024
ACK_SECONDS = 60.0


class SlowReader(Exception):
    """The client has acknowledged nothing for `ACK_SECONDS` while text is pending."""


class Follower:
    """Sends the events of ``feed`` after ``cursor``. ``acknowledge`` may be called concurrently."""

    def __init__(
        self, feed: GenerationFeed, cursor: int, send: Callable[[AnyEvent], Awaitable[None]]
    ):
        self._feed = feed
        self._cursor = cursor
        self._send = send
        self._unacknowledged: deque[tuple[int, int]] = deque()
        self._acknowledged = asyncio.Event()

    def acknowledge(self, cursor: int) -> None:
        while self._unacknowledged and self._unacknowledged[0][0] <= cursor:
            self._unacknowledged.popleft()
        self._acknowledged.set()

    async def run(self) -> int:
        """Send events until all text is sent and the stream has ended; return the last cursor."""
        feed, attempt, place, checked = self._feed, 0, None, 0.0
        while True:
            change = feed.next_change()
            if feed.attempt > attempt:
                attempt = feed.attempt
                await self._send(Started(feed.generation, attempt, feed.syntax))
            if feed.place is None:
                place = None
            elif feed.place != place:
                place = feed.place
                await self._send(
                    Waiting(
                        feed.generation, place.ahead, place.model, place.progress, place.seconds
                    )
                )
            await self._room()
            if text := feed.read(self._cursor):
                self._cursor = text.end
                self._unacknowledged.append((text.end, len(text.text)))
                await self._send(
                    Delta(feed.generation, text.start, text.end, text.text, feed.reasoning_ms)
                )
            if feed.end is not None and self._cursor == len(feed.texts):
                return self._cursor
            if feed.checked - checked >= QUIET_SECONDS and feed.moved < feed.checked:
                await self._send(Alive(feed.generation))
                checked = feed.checked
            await change.wait()

    async def _room(self) -> None:
        while sum(chars for _, chars in self._unacknowledged) > MAX_UNACKNOWLEDGED_CHARS:
            self._acknowledged.clear()
            try:
                async with asyncio.timeout(ACK_SECONDS):
                    await self._acknowledged.wait()
            except TimeoutError:
                raise SlowReader from None
