"""One socket following one generation: turns the feed into events at the socket's own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from chatsite.chat.protocol import AnyEvent, Delta, Started, Waiting
from chatsite.stream.hub import Feed

# Daphne never waits for a slow reader: what a client has not acknowledged is in our memory.
MAX_UNACKNOWLEDGED_CHARS = 256 * 1024
ACK_SECONDS = 60.0


class SlowReader(Exception):
    """The client has acknowledged nothing for `ACK_SECONDS`, though text waits for it."""


class Follower:
    """Sends the events of ``feed`` from ``cursor`` on. ``acknowledge`` may be called meanwhile."""

    def __init__(self, feed: Feed, cursor: int, send: Callable[[AnyEvent], Awaitable[None]]):
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
        """Returns the last cursor once all text before the end of the stream is sent."""
        feed, attempt, place = self._feed, 0, None
        while True:
            change = feed.next_change()
            if feed.attempt > attempt:
                attempt = feed.attempt
                await self._send(Started(feed.generation, attempt, feed.syntax))
            if feed.place is not None and feed.place != place and not feed.texts:
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
            await change.wait()

    async def _room(self) -> None:
        while sum(chars for _, chars in self._unacknowledged) > MAX_UNACKNOWLEDGED_CHARS:
            self._acknowledged.clear()
            try:
                await asyncio.wait_for(self._acknowledged.wait(), ACK_SECONDS)
            except TimeoutError:
                raise SlowReader from None
