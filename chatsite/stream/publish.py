"""Writing the streams: the inference host appends, and Redis refuses stale writers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from chatsite.engine.contract.messages import PLAIN, OutputSyntax, TokenLogprob
from chatsite.redis_keys import stream_key
from chatsite.stream.entries import End, Entry, Fence, Text, Vectors
from chatsite.stream.wire import Command, Wire

log = logging.getLogger(__name__)

# At most one entry per generation in this time: below what users can perceive, and an eighth of
# the work of an entry per token at 150 tokens/s.
FLUSH_SECONDS = 0.05
_RETRY_SECONDS = 0.5
# Redis' error for an ID that is not above the last one.
_REFUSED = "equal or smaller"
# A stream that is never ended (host and reaper are gone for good) expires.
_OPEN_TTL_SECONDS = 24 * 3600

encode = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(Entry).decode


class StaleWriter(Exception):
    """A later attempt writes this stream, so pending text of this one is discarded."""


@dataclass
class Writer:
    """One attempt at a generation.

    ``text`` and ``tokens`` are all that the stream will hold, including earlier attempts;
    ``pending`` is the part that waits for the next flush. ``reasoning_ms`` is the duration of the
    reasoning, None before its end, and ``reasoning_tokens`` the tokens up to there.
    """

    generation: str
    attempt: int
    text: list[str] = field(default_factory=list)
    tokens: int = 0
    seq: int = 0
    reasoning_ms: float | None = None
    reasoning_tokens: int = 0
    pending: str = ""
    pending_tokens: int = 0
    pending_logprobs: list[TokenLogprob] = field(default_factory=list)
    pending_reasoning_ms: float | None = None
    pending_prompt: tuple[int, int] | None = None
    fenced_off: bool = False
    # Seconds that the stream is kept after its end, if not as long as others.
    ended_ttl_seconds: int | None = None
    # IDs and data of all entries in the stream, and the connection on which they were confirmed.
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)
    epoch: int = 0

    @property
    def unwritten(self) -> bool:
        """Whether there is something that `Publisher.flush` can write."""
        pending = self.pending or self.pending_logprobs or self.pending_prompt
        return bool(pending) and not self.fenced_off

    def full_text(self) -> str:
        return "".join(self.text)

    def end_reasoning(self, milliseconds: float) -> None:
        """Record that the reasoning ends with the current text."""
        self.reasoning_ms, self.reasoning_tokens = milliseconds, self.tokens

    def mark_written(self, held: Text, data: bytes) -> None:
        """Record that Redis holds ``data`` as the next entry; remove it from what is pending."""
        self.keep(data)
        self.pending = self.pending[len(held.text) :]
        self.pending_tokens -= held.tokens
        del self.pending_logprobs[: len(held.logprobs)]
        if held.reasoning_ms is not None:
            self.pending_reasoning_ms = None
        if held.prompt is not None:
            self.pending_prompt = None

    @property
    def next_id(self) -> str:
        return f"{self.attempt}-{self.seq + 1}"

    def keep(self, data: bytes) -> None:
        """Record that the next entry is in the stream."""
        self.entries.append((self.next_id.encode(), data))
        self.seq += 1


class Publisher:
    """All writers of one host: each flush sends their new text in one pipeline."""

    def __init__(self, redis: Redis, *, ended_ttl_seconds: int, wire: Wire | None = None) -> None:
        self._wire = wire or Wire(redis)
        self._ended_ttl = ended_ttl_seconds
        self._dirty: dict[str, Writer] = {}
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    async def open(self, generation: str, attempt: int, syntax: OutputSyntax = PLAIN) -> Writer:
        """Fence off earlier attempts, then read their entries: that text is kept.

        ``syntax`` tells readers how the model marks reasoning and tool calls. Raises `StaleWriter`
        if a later attempt has opened the stream.
        """
        key = stream_key(generation)
        fence = encode(Fence(syntax))
        commands: list[Command] = [
            ("XADD", key, f"{attempt}-0", "e", fence),
            ("EXPIRE", key, _OPEN_TTL_SECONDS),
        ]
        if attempt > 1:
            commands.append(("XRANGE", key, "-", "+"))
        answers = await self._ask(generation, *commands)
        writer = Writer(generation, attempt, epoch=self._wire.epoch)
        if attempt == 1:
            writer.entries.append((b"1-0", fence))
        for id, (_field, data) in answers[2] if attempt > 1 else ():
            entry = decode_entry(data)
            writer.entries.append((id, data))
            if isinstance(entry, Text):
                writer.text.append(entry.text)
                writer.tokens += entry.tokens
                if entry.reasoning_ms is not None:
                    writer.end_reasoning(entry.reasoning_ms)
            if not isinstance(entry, Fence):
                writer.seq = int(id.partition(b"-")[2])
        return writer

    async def take_over(self, generation: str, attempt: int) -> Writer:
        """Open the stream of a generation that no host holds.

        Uses the first attempt from ``attempt`` on that fences off all others, including ones that
        were opened and abandoned.
        """
        while True:
            newest = await self._newest(generation)
            last = int(newest[0].partition(b"-")[0]) if newest else 0
            try:
                return await self.open(generation, max(attempt, last + 1))
            except StaleWriter:
                continue  # another process took it over meanwhile

    def append(
        self, writer: Writer, text: str, tokens: int, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> None:
        """Add text, which the next flush writes."""
        writer.text.append(text)
        writer.tokens += tokens
        writer.pending += text
        writer.pending_tokens += tokens
        writer.pending_logprobs += logprobs
        self._dirty[writer.generation] = writer
        self._wake.set()

    def prompted(self, writer: Writer, tokens: int, cached: int) -> None:
        """Publish the length of the prompt, in an entry without text."""
        writer.pending_prompt = (tokens, cached)
        self._dirty[writer.generation] = writer
        self._wake.set()

    def reasoned(self, writer: Writer, milliseconds: float) -> None:
        """Record that the reasoning ends with the text appended last."""
        writer.end_reasoning(milliseconds)
        writer.pending_reasoning_ms = milliseconds

    async def run(self) -> None:
        """Flush until cancelled. The first text after a pause is sent immediately.

        A writer is dropped if Redis reports that a later attempt has its stream.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._wake.wait()
            # Sleep only if needed: with slow text, sleeping first would cost a timer per text.
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            self._wake.clear()
            due = loop.time() + FLUSH_SECONDS
            try:
                await self.flush()
            except RedisError as error:
                log.warning("Text can't be published; retrying", extra={"error": error})
                self._wake.set()
                due = loop.time() + _RETRY_SECONDS

    async def flush(self) -> None:
        """Write all pending text in one round trip; nothing is lost if Redis fails."""
        async with self._flushing:
            writers = [writer for writer in self._dirty.values() if writer.unwritten]
            self._dirty.clear()
            if not writers:
                return
            sent = [
                Text(
                    w.pending,
                    w.pending_tokens,
                    tuple(w.pending_logprobs),
                    w.pending_reasoning_ms,
                    w.pending_prompt,
                )
                for w in writers
            ]
            datas = [encode(entry) for entry in sent]
            try:
                await self._restore(writers)
                answers = await self._write(
                    [
                        ("XADD", stream_key(writer.generation), writer.next_id, "e", data)
                        for writer, data in zip(writers, datas, strict=True)
                    ]
                )
                for writer, entry, data, answer in zip(writers, sent, datas, answers, strict=True):
                    if isinstance(answer, ResponseError):
                        await self._refused(writer, answer)
                    else:
                        writer.mark_written(entry, data)
            finally:
                for writer in writers:
                    if writer.unwritten:
                        self._dirty[writer.generation] = writer
                        self._wake.set()

    async def _restore(self, writers: list[Writer]) -> None:
        """After a reconnect, rewrite entries that a restarted Redis has lost.

        The entries keep their IDs, so readers that have them notice nothing.
        """
        epoch = await self._wire.connect()
        stale = [writer for writer in writers if writer.epoch != epoch]
        if not stale:
            return
        newest = await self._wire.ask(
            *(
                ("XREVRANGE", stream_key(writer.generation), "+", "-", "COUNT", 1)
                for writer in stale
            )
        )
        commands: list[Command] = []
        for writer, found in zip(stale, newest, strict=True):
            last = _order(found[0][0]) if found else (0, -1)
            key = stream_key(writer.generation)
            lost = [(id, data) for id, data in writer.entries if _order(id) > last]
            if lost:
                log.warning(
                    "Redis lost entries of a stream; writing them again",
                    extra={"generation": writer.generation, "entries": len(lost)},
                )
                commands += [("XADD", key, id, "e", data) for id, data in lost]
                commands.append(("EXPIRE", key, _OPEN_TTL_SECONDS))
        # A refused entry belongs to a fenced writer: its next write reports that.
        for reply in await self._wire.exchange(*commands):
            if isinstance(reply, ResponseError) and _REFUSED not in str(reply):
                raise reply
        if self._wire.epoch != epoch or not self._wire.connected:
            raise RedisConnectionError("Redis closed the connection")
        for writer in stale:
            writer.epoch = epoch

    async def _write(self, entries: list[Command]) -> list[Any]:
        """Write entries; several go in one transaction, so that a blocked reader wakes once."""
        if len(entries) == 1:
            return await self._wire.exchange(*entries)
        *_queued, answers = await self._wire.exchange(("MULTI",), *entries, ("EXEC",))
        if isinstance(answers, ResponseError):
            raise answers
        return list(answers)

    async def _refused(self, writer: Writer, answer: ResponseError) -> None:
        if _REFUSED not in str(answer):
            raise answer  # Redis is out of memory, for example: the text stays pending
        data = await self._own_entry(writer)
        held = None if data is None else decode_entry(data)
        if data is not None and isinstance(held, Text):
            writer.mark_written(held, data)
        else:
            writer.fenced_off = True

    async def _own_entry(self, writer: Writer) -> bytes | None:
        """Return the entry under the refused ID if it is the newest one.

        Then an earlier request arrived although its reply was lost. Its text may be shorter than
        what is pending now.
        """
        newest = await self._newest(writer.generation)
        return newest[1] if newest and newest[0] == writer.next_id.encode() else None

    async def _newest(self, generation: str) -> tuple[bytes, bytes] | None:
        """Return ID and data of the newest entry; None for an empty stream."""
        key = stream_key(generation)
        [found] = await self._wire.ask(("XREVRANGE", key, "+", "-", "COUNT", 1))
        return (found[0][0], found[0][1][1]) if found else None

    async def vectors(self, writer: Writer, vectors: Vectors) -> None:
        """Write the result of an embedding request, before its end.

        Raises `StaleWriter` if a later attempt writes this stream.
        """
        writer.keep(await self._write_once(writer, vectors))

    async def end(self, writer: Writer, end: End) -> None:
        """Write the remaining text and the last entry, after SQL has both.

        May be called again after a `RedisError`: nothing is written twice. Raises `StaleWriter` if
        a later attempt writes this stream.
        """
        # One flush may write less than is pending if an earlier request with a shorter text
        # arrived. The end must not take the ID of the remaining text.
        while writer.unwritten:
            await self.flush()
        if writer.fenced_off:
            raise StaleWriter(writer.generation)
        seconds = self._ended_ttl if writer.ended_ttl_seconds is None else writer.ended_ttl_seconds
        expire = ("EXPIRE", stream_key(writer.generation), seconds)
        await self._write_once(writer, end, expire)

    async def _write_once(self, writer: Writer, entry: Vectors | End, *also: Command) -> bytes:
        """Write the next entry unless an earlier request whose reply was lost has; return its data.

        Raises `StaleWriter` if a later attempt writes this stream.
        """
        key, data = stream_key(writer.generation), encode(entry)
        await self._restore([writer])
        try:
            await self._ask(writer.generation, ("XADD", key, writer.next_id, "e", data), *also)
        except StaleWriter:
            held = await self._own_entry(writer)
            if held is None or not isinstance(decode_entry(held), type(entry)):
                raise
            return held
        return data

    async def _ask(self, generation: str, *commands: Command) -> list[Any]:
        try:
            return await self._wire.ask(*commands)
        except ResponseError as error:
            if _REFUSED in str(error):
                raise StaleWriter(generation) from error
            raise


def _order(id: bytes) -> tuple[int, int]:
    attempt, _dash, seq = id.partition(b"-")
    return int(attempt), int(seq)
