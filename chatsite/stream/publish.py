"""Writing the streams: the inference host appends, Redis refuses whoever is out of date."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from chatsite.engine.messages import PLAIN, OutputSyntax, TokenLogprob
from chatsite.stream.messages import End, Entry, Fence, Text, Vectors
from chatsite.stream.wire import Command, Wire

log = logging.getLogger(__name__)

# One entry per generation in this time, at most: below what a person can tell apart, and an
# eighth of the work of an entry per token at 150 tokens/s.
FLUSH_SECONDS = 0.05
_RETRY_SECONDS = 0.5
# What Redis says of an ID that is not above the last one.
_REFUSED = "equal or smaller"
# A stream nobody ends (its host and the reaper gone for good) goes away by itself.
_OPEN_TTL_SECONDS = 24 * 3600

encode = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(Entry).decode


def stream_key(generation: str) -> str:
    return f"cs:gen:{generation}"


class FencedOff(Exception):
    """A later attempt writes this stream: whatever this one still has is void."""


@dataclass
class Writer:
    """One attempt at one generation. ``text`` and ``tokens`` are all that the stream will hold,
    earlier attempts included; ``pending`` is what of it waits for the next flush.
    ``reasoning_ms`` is how long its reasoning took, None before its end, and ``reasoning_tokens``
    are what was written until then."""

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
    fenced_off: bool = False

    def full_text(self) -> str:
        return "".join(self.text)

    def reasoned(self, milliseconds: float) -> None:
        """The reasoning ends with the text that is there."""
        self.reasoning_ms, self.reasoning_tokens = milliseconds, self.tokens

    def settle(self, held: Text) -> None:
        """Takes the next entry, which Redis holds now, out of what is pending."""
        self.seq += 1
        self.pending = self.pending[len(held.text) :]
        self.pending_tokens -= held.tokens
        del self.pending_logprobs[: len(held.logprobs)]
        if held.reasoning_ms is not None:
            self.pending_reasoning_ms = None


class Publisher:
    """All writers of one host: one pipeline per flush carries the new text of all of them."""

    def __init__(self, redis: Redis, *, ended_ttl_seconds: int) -> None:
        self._wire = Wire(redis)
        self._ended_ttl = ended_ttl_seconds
        self._dirty: dict[str, Writer] = {}
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    async def open(self, generation: str, attempt: int, syntax: OutputSyntax = PLAIN) -> Writer:
        """Fences off earlier attempts, then reads what they wrote: that text stays. ``syntax``
        tells readers how the model marks what it writes.

        Raises `FencedOff` if a later attempt was here already.
        """
        key = stream_key(generation)
        commands: list[Command] = [
            ("XADD", key, f"{attempt}-0", "e", encode(Fence(syntax))),
            ("EXPIRE", key, _OPEN_TTL_SECONDS),
        ]
        if attempt > 1:
            commands.append(("XRANGE", key, "-", "+"))
        answers = await self._ask(generation, *commands)
        writer = Writer(generation, attempt)
        for id, (_field, data) in answers[2] if attempt > 1 else ():
            entry = decode_entry(data)
            if isinstance(entry, Text):
                writer.text.append(entry.text)
                writer.tokens += entry.tokens
                if entry.reasoning_ms is not None:
                    writer.reasoned(entry.reasoning_ms)
            if not isinstance(entry, Fence):
                writer.seq = int(id.partition(b"-")[2])
        return writer

    def append(
        self, writer: Writer, text: str, tokens: int, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> None:
        """Takes text now, writes it with the next flush."""
        writer.text.append(text)
        writer.tokens += tokens
        writer.pending += text
        writer.pending_tokens += tokens
        writer.pending_logprobs += logprobs
        self._dirty[writer.generation] = writer
        self._wake.set()

    def reasoned(self, writer: Writer, milliseconds: float) -> None:
        """The reasoning of an answer ends with the text that was appended last."""
        writer.reasoned(milliseconds)
        writer.pending_reasoning_ms = milliseconds

    async def run(self) -> None:
        """Flushes until cancelled. The first text after a pause goes out at once; a writer is
        dropped from then on if Redis says that a later attempt has its stream."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._wake.wait()
            # Not slept before it: where text comes more slowly, that would be a timer for each.
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            self._wake.clear()
            due = loop.time() + FLUSH_SECONDS
            try:
                await self.flush()
            except RedisError as error:
                log.warning("Redis does not take text: %s. Trying again.", error)
                self._wake.set()
                due = loop.time() + _RETRY_SECONDS

    async def flush(self) -> None:
        """Writes all that is pending in one round trip; nothing is lost if Redis fails."""
        async with self._flushing:
            writers = [
                w
                for w in self._dirty.values()
                if (w.pending or w.pending_logprobs) and not w.fenced_off
            ]
            self._dirty.clear()
            if not writers:
                return
            sent = [
                Text(w.pending, w.pending_tokens, tuple(w.pending_logprobs), w.pending_reasoning_ms)
                for w in writers
            ]
            try:
                answers = await self._write(
                    [
                        (
                            *("XADD", stream_key(writer.generation)),
                            *(f"{writer.attempt}-{writer.seq + 1}", "e", encode(entry)),
                        )
                        for writer, entry in zip(writers, sent, strict=True)
                    ]
                )
                for writer, entry, answer in zip(writers, sent, answers, strict=True):
                    if isinstance(answer, ResponseError):
                        await self._refused(writer, answer)
                    else:
                        writer.settle(entry)
            finally:
                for writer in writers:
                    if writer.pending and not writer.fenced_off:
                        self._dirty[writer.generation] = writer
                        self._wake.set()

    async def _write(self, entries: list[Command]) -> list[Any]:
        """Several in a transaction, so that a reader that waits is woken once and gets all."""
        if len(entries) == 1:
            return await self._wire.exchange(*entries)
        *_queued, answers = await self._wire.exchange(("MULTI",), *entries, ("EXEC",))
        if isinstance(answers, ResponseError):
            raise answers
        return list(answers)

    async def _refused(self, writer: Writer, answer: ResponseError) -> None:
        if _REFUSED not in str(answer):
            raise answer  # its memory is full, say: the text waits
        held = await self._own_entry(writer)
        if held is None:
            writer.fenced_off = True
        else:
            writer.settle(held)

    async def _own_entry(self, writer: Writer) -> Text | None:
        """The entry under the refused ID if it is the newest: an earlier try of ours arrived
        after all and only its answer was lost. It may hold less than is pending by now."""
        wanted = f"{writer.attempt}-{writer.seq + 1}".encode()
        key = stream_key(writer.generation)
        [newest] = await self._wire.ask(("XREVRANGE", key, "+", "-", "COUNT", 1))
        if not newest or newest[0][0] != wanted:
            return None
        entry = decode_entry(newest[0][1][1])
        return entry if isinstance(entry, Text) else None

    async def vectors(self, writer: Writer, vectors: Vectors) -> None:
        """Writes the result of an embedding request; its end follows.

        Raises `FencedOff` if a later attempt writes this stream.
        """
        id = f"{writer.attempt}-{writer.seq + 1}"
        key = stream_key(writer.generation)
        await self._ask(writer.generation, ("XADD", key, id, "e", encode(vectors)))
        writer.seq += 1

    async def end(self, writer: Writer, end: End) -> None:
        """Writes the rest of the text and the last entry. Call it after SQL has both.

        Raises `FencedOff` if a later attempt writes this stream.
        """
        await self.flush()
        if writer.fenced_off:
            raise FencedOff(writer.generation)
        key = stream_key(writer.generation)
        await self._ask(
            writer.generation,
            ("XADD", key, f"{writer.attempt}-{writer.seq + 1}", "e", encode(end)),
            ("EXPIRE", key, self._ended_ttl),
        )

    async def _ask(self, generation: str, *commands: Command) -> list[Any]:
        try:
            return await self._wire.ask(*commands)
        except ResponseError as error:
            if _REFUSED in str(error):
                raise FencedOff(generation) from error
            raise
