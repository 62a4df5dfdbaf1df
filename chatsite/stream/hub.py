"""Reading the streams: one reader per process, however many sockets look on.

A `Feed` holds the text of one generation for as long as somebody in this process follows it.
Readers pull ranges from it at their own pace, so a slow socket costs no memory and what piles
up for it merges into one range.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.engine.messages import PLAIN, OutputSyntax, TokenLogprob
from chatsite.stream.messages import End, Fence, Text, Vectors
from chatsite.stream.publish import decode_entry, stream_key
from chatsite.stream.wire import Wire

log = logging.getLogger(__name__)

# Below every socket timeout that a Redis client may have, so that an idle read ends by itself.
_BLOCK_MS = 4000
_WAKE_TTL_SECONDS = 60
_CLOSE_SECONDS = 0.2
_WAITING_SECONDS = 0.5
_RETRY_SECONDS = 0.3
# Readers are woken after so long without news, so that none of them needs a clock of its own.
QUIET_SECONDS = 2.0


@dataclass(frozen=True)
class Place:
    """What is known while an answer waits; see `protocol.Waiting`."""

    ahead: int
    model: str
    progress: float | None = None
    seconds: int | None = None


class Range(msgspec.Struct, frozen=True):
    """Text of the entries ``start + 1`` to ``end``."""

    start: int
    end: int
    text: str


@dataclass
class Feed:
    """One generation as this process knows it. ``texts[i]`` is the text of entry ``i + 1``."""

    generation: str
    model: str
    texts: list[str] = field(default_factory=list)
    attempt: int = 0
    syntax: OutputSyntax = PLAIN
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reasoning_ms: float | None = None
    vectors: Vectors | None = None
    end: End | None = None
    place: Place | None = None
    last_id: bytes = b"0-0"
    followers: int = 0
    notified: float = field(default_factory=time.monotonic)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def read(self, cursor: int) -> Range | None:
        """What follows ``cursor``; None when there is nothing yet. A cursor beyond what the
        stream holds (Redis lost its data) starts again from the first character."""
        if cursor > len(self.texts):
            cursor = 0
        if cursor == len(self.texts):
            return None
        return Range(cursor, len(self.texts), "".join(self.texts[cursor:]))

    def next_change(self) -> asyncio.Event:
        """Set when something is new, or nothing has been for `QUIET_SECONDS`. Take it before
        reading, so that nothing is missed."""
        return self._changed

    def _notify(self) -> None:
        self.notified = time.monotonic()
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    def _apply(self, id: bytes, data: bytes) -> None:
        self.last_id = id
        attempt, _, _ = id.partition(b"-")
        match decode_entry(data):
            case Fence(syntax):
                self.attempt = int(attempt)
                self.syntax = syntax
                self.place = None
            case Text() as entry:
                self.texts.append(entry.text)
                self.logprobs += entry.logprobs
                if entry.reasoning_ms is not None:
                    self.reasoning_ms = entry.reasoning_ms
            case Vectors() as vectors:
                # An entry without text, so that cursors count all entries.
                self.texts.append("")
                self.vectors = vectors
            case End() as end:
                self.end = end


WaitingLine = Callable[[list[tuple[str, str]]], Awaitable[list[Place | None]]]


class Hub:
    """Follows the streams that somebody in this process wants, over one Redis connection.

    ``waiting_line`` answers for (model, generation) pairs where they stand; it is asked twice a
    second for those that have not begun.
    """

    def __init__(self, redis: Redis, waiting_line: WaitingLine) -> None:
        # The reader blocks its own for seconds.
        self._wire, self._wake_wire = Wire(redis), Wire(redis)
        self._waiting_line = waiting_line
        self._feeds: dict[bytes, Feed] = {}
        # Writing to this stream ends a blocked read, so that a new feed need not wait for it.
        self._wake_key = f"cs:wake:{secrets.token_hex(8)}".encode()
        self._wake_id = b"0-0"
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def follow(self, generation: str, model: str) -> AsyncIterator[Feed]:
        """The feed of a generation, filled from its first entry on."""
        key = stream_key(generation).encode()
        known = self._feeds.get(key)
        feed = known or Feed(generation, model)
        # Counted before anything is awaited: one who leaves meanwhile must not take it away.
        feed.followers += 1
        try:
            if known is None:
                self._feeds[key] = feed
                self._start()
                await self._wake()
            yield feed
        finally:
            feed.followers -= 1
            if feed.followers == 0 and self._feeds.get(key) is feed:
                del self._feeds[key]

    async def close(self) -> None:
        # Again until they end: asyncio.wait_for of Python 3.11, which the Redis client uses, loses
        # a cancellation that comes in the same turn of the loop as its result.
        while open_tasks := [task for task in self._tasks if not task.done()]:
            for task in open_tasks:
                task.cancel()
            await asyncio.wait(open_tasks, timeout=_CLOSE_SECONDS)
        self._tasks.clear()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._forever(self._read), name="hub-read"),
                asyncio.create_task(self._forever(self._watch_line), name="hub-line"),
                asyncio.create_task(self._forever(self._stir), name="hub-stir"),
            ]

    async def _wake(self) -> None:
        try:
            await self._wake_wire.ask(
                ("XADD", self._wake_key, "MAXLEN", 1, "*", "w", b""),
                ("EXPIRE", self._wake_key, _WAKE_TTL_SECONDS),
            )
        except RedisError as error:
            log.warning("Could not wake the reader: %s", error)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except RedisError as error:
                log.warning("Redis does not answer: %s. Trying again.", error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                # Every open page of this process hangs on these loops.
                log.exception("the reader of the streams failed; going on")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self) -> None:
        wanted = {key: feed.last_id for key, feed in self._feeds.items() if feed.end is None}
        keys, ids = (*wanted, self._wake_key), (*wanted.values(), self._wake_id)
        [answer] = await self._wire.ask(("XREAD", "BLOCK", _BLOCK_MS, "STREAMS", *keys, *ids))
        # A dictionary by version 3 of the protocol.
        for key, entries in answer.items() if isinstance(answer, dict) else answer or ():
            if key == self._wake_key:
                self._wake_id = entries[-1][0]
                continue
            feed = self._feeds.get(key)
            # A feed dropped and opened anew while the read was under way wants all from the
            # first entry on, which this answer may not have.
            if feed is None or feed.last_id != wanted[key]:
                continue
            for id, (_field, data) in entries:
                feed._apply(id, data)
            feed._notify()

    async def _stir(self) -> None:
        await asyncio.sleep(QUIET_SECONDS / 4)
        quiet = time.monotonic() - QUIET_SECONDS
        for feed in self._feeds.values():
            if feed.notified <= quiet:
                feed._notify()

    async def _watch_line(self) -> None:
        await asyncio.sleep(_WAITING_SECONDS)
        waiting = [f for f in self._feeds.values() if f.end is None and not f.texts]
        if not waiting:
            return
        places = await self._waiting_line([(f.model, f.generation) for f in waiting])
        for feed, place in zip(waiting, places, strict=True):
            if place != feed.place:
                feed.place = place
                feed._notify()
