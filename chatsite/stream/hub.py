"""Reading the streams: one reader per process for all its sockets.

A `GenerationFeed` holds the text of one generation while a client of this process follows it.
Readers pull ranges from it at their own pace: a slow socket costs no memory, and its backlog is
merged into one range.
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

from chatsite.engine.contract.messages import PLAIN, OutputSyntax, TokenLogprob
from chatsite.redis_keys import stream_key, wake_key
from chatsite.stream.entries import End, Fence, Text, Vectors
from chatsite.stream.publish import decode_entry
from chatsite.stream.wire import Wire

log = logging.getLogger(__name__)

# Below any socket timeout of a Redis client, so that an idle read ends by itself.
_BLOCK_MS = 4000
_WAKE_TTL_SECONDS = 60
_CLOSE_SECONDS = 0.2
WAITING_SECONDS = 0.5
_RETRY_SECONDS = 0.3
# Checks without news or a queue position, 10 s in all, before SQL is asked.
_STANDING_CHECKS = 20
# Readers are woken after this time without news, so that none of them needs a timer.
QUIET_SECONDS = 2.0


@dataclass(frozen=True)
class QueuePosition:
    """The state of a queued answer; see `protocol.Waiting`."""

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
class GenerationFeed:
    """The state of one generation in this process.

    ``texts[i]`` is the text of entry ``i + 1``, and ``tokens`` their sum; ``prompt`` is as in
    `Text`.
    """

    generation: str
    model: str
    texts: list[str] = field(default_factory=list)
    attempt: int = 0
    syntax: OutputSyntax = PLAIN
    logprobs: list[TokenLogprob] = field(default_factory=list)
    tokens: int = 0
    prompt: tuple[int, int] | None = None
    reasoning_ms: float | None = None
    vectors: Vectors | None = None
    end: End | None = None
    place: QueuePosition | None = None
    # Redis has lost entries: the text is incomplete or differs from the stream's.
    torn: bool = False
    last_id: bytes = b"0-0"
    followers: int = 0
    notified: float = field(default_factory=time.monotonic)
    # Times of the last entry and of Redis' last reply for this feed, in monotonic seconds.
    moved: float = field(default_factory=time.monotonic)
    checked: float = 0.0
    standing: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def read(self, cursor: int) -> Range | None:
        """Return the text after ``cursor``; None if there is none yet.

        A cursor beyond the stream's end (Redis lost its data) restarts from the first character.
        """
        if cursor > len(self.texts):
            cursor = 0
        if cursor == len(self.texts):
            return None
        return Range(cursor, len(self.texts), "".join(self.texts[cursor:]))

    def next_change(self) -> asyncio.Event:
        """Return an event that is set on news, or after `QUIET_SECONDS` without any.

        Take it before reading, so that nothing is missed.
        """
        return self._changed

    def _notify(self) -> None:
        self.notified = time.monotonic()
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    def apply(self, id: bytes, data: bytes) -> None:
        self.last_id = id
        self.standing = 0
        attempt, _, seq = id.partition(b"-")
        entry = decode_entry(data)
        if not isinstance(entry, Fence) and int(seq) != len(self.texts) + 1:
            self._tear(int(seq))
        match entry:
            case Fence(syntax):
                self.attempt = int(attempt)
                self.syntax = syntax
                self.place = None
            case Text() as entry:
                self.texts.append(entry.text)
                self.logprobs += entry.logprobs
                self.tokens += entry.tokens
                if entry.prompt is not None:
                    self.prompt = entry.prompt
                if entry.reasoning_ms is not None:
                    self.reasoning_ms = entry.reasoning_ms
            case Vectors() as vectors:
                # Counts as an entry without text, since cursors count all entries.
                self.texts.append("")
                self.vectors = vectors
            case End() as end:
                self.end = end

    def _tear(self, seq: int) -> None:
        """Mark lost or replaced entries before ``seq``, so that cursors stay valid."""
        log.warning("Redis lost entries of a stream", extra={"generation": self.generation})
        self.torn = True
        del self.texts[seq - 1 :]
        self.texts += [""] * (seq - 1 - len(self.texts))


WaitingLine = Callable[[list[tuple[str, str]]], Awaitable[list[QueuePosition | None]]]
SavedEnds = Callable[[list[str]], Awaitable[dict[str, End]]]


async def _none_saved(generations: list[str]) -> dict[str, End]:
    return {}


class Hub:
    """Follows the streams that clients of this process need, over one Redis connection.

    ``waiting_line`` returns the queue positions of (model, generation) pairs; it is called twice a
    second for those without text, or without new text for `QUIET_SECONDS`. ``saved_ends`` is asked
    about those without progress for longer: their last entry may be lost.
    """

    def __init__(
        self, redis: Redis, waiting_line: WaitingLine, saved_ends: SavedEnds = _none_saved
    ) -> None:
        # Reads block their connection for seconds, so the wake-ups need another one.
        self._wire, self._wake_wire = Wire(redis), Wire(redis)
        self._waiting_line = waiting_line
        self._saved_ends = saved_ends
        self._feeds: dict[bytes, GenerationFeed] = {}
        # Writing to this stream ends a blocked read, so that a new feed does not wait for it.
        self._wake_key = wake_key(secrets.token_hex(8)).encode()
        self._wake_id = b"0-0"
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def follow(self, generation: str, model: str) -> AsyncIterator[GenerationFeed]:
        """Yield the feed of a generation, filled from its first entry."""
        key = stream_key(generation).encode()
        known = self._feeds.get(key)
        feed = known or GenerationFeed(generation, model)
        # Counted before the first await: a follower that leaves meanwhile must not delete the feed.
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
        # Cancel until they end: asyncio.wait_for of Python 3.11, which the Redis client uses, loses
        # a cancellation that arrives in the same iteration of the loop as its result.
        while open_tasks := [task for task in self._tasks if not task.done()]:
            for task in open_tasks:
                task.cancel()
            await asyncio.wait(open_tasks, timeout=_CLOSE_SECONDS)
        self._tasks.clear()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._repeat(self._read), name="hub-read"),
                asyncio.create_task(self._repeat(self._check_waiting_feeds), name="hub-waiting"),
                asyncio.create_task(self._repeat(self._notify_quiet_feeds), name="hub-quiet"),
            ]

    async def _wake(self) -> None:
        try:
            await self._wake_wire.ask(
                ("XADD", self._wake_key, "MAXLEN", 1, "*", "w", b""),
                ("EXPIRE", self._wake_key, _WAKE_TTL_SECONDS),
            )
        except RedisError as error:
            log.warning("Stream reader can't be woken", extra={"error": error})

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except RedisError as error:
                log.warning("Redis is not responding; retrying", extra={"error": error})
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                # Every open page of this process depends on these loops.
                log.exception("Stream reader failed; restarting it")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self) -> None:
        wanted = {key: feed.last_id for key, feed in self._feeds.items() if feed.end is None}
        keys, ids = (*wanted, self._wake_key), (*wanted.values(), self._wake_id)
        [answer] = await self._wire.ask(("XREAD", "BLOCK", _BLOCK_MS, "STREAMS", *keys, *ids))
        # RESP3 returns a dictionary.
        for key, entries in answer.items() if isinstance(answer, dict) else answer or ():
            if key == self._wake_key:
                self._wake_id = entries[-1][0]
                continue
            feed = self._feeds.get(key)
            # A feed dropped and reopened during the read needs all entries from the first, which
            # this reply may lack.
            if feed is None or feed.last_id != wanted[key]:
                continue
            for id, (_field, data) in entries:
                feed.apply(id, data)
            feed._notify()
            feed.moved = feed.notified

    async def _notify_quiet_feeds(self) -> None:
        await asyncio.sleep(QUIET_SECONDS / 4)
        quiet = time.monotonic() - QUIET_SECONDS
        for feed in self._feeds.values():
            if feed.notified <= quiet:
                feed._notify()

    async def _check_waiting_feeds(self) -> None:
        await asyncio.sleep(WAITING_SECONDS)
        # Also those without new text: their model may have failed.
        quiet = time.monotonic() - QUIET_SECONDS
        open_feeds = (feed for feed in self._feeds.values() if feed.end is None)
        waiting = [feed for feed in open_feeds if not feed.texts or feed.moved <= quiet]
        if not waiting:
            return
        places = await self._waiting_line([(f.model, f.generation) for f in waiting])
        now = time.monotonic()
        for feed, place in zip(waiting, places, strict=True):
            feed.checked = now
            feed.standing = 0 if place else feed.standing + 1
            if place != feed.place:
                feed.place = place
                feed._notify()
        await self._find_lost_ends([feed for feed in waiting if feed.end is None])

    async def _find_lost_ends(self, feeds: list[GenerationFeed]) -> None:
        """End feeds whose generation has ended without an entry; their text may be incomplete."""
        asked = {
            feed.generation: feed
            for feed in feeds
            if feed.standing and feed.standing % _STANDING_CHECKS == 0
        }
        if not asked:
            return
        for generation, end in (await self._saved_ends(list(asked))).items():
            feed = asked[generation]
            if feed.end is None:
                log.warning("Redis lost the end of a stream", extra={"generation": generation})
                feed.end, feed.torn = end, True
                feed._notify()
