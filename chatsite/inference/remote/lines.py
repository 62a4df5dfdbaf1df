"""Lines and events of streams, bounded and in linear time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

from chatsite.inference.remote.contract import Lied

# Bytes: far more than a line with all log probabilities that can be requested.
LINE_MOST: Final = 4 << 20


async def lines(chunks: AsyncGenerator[bytes], most: int = LINE_MOST) -> AsyncGenerator[bytes]:
    """Yield lines without their ends (LF or CR LF), and the last one even without an end.

    Raises `Lied` if a line is longer than ``most`` bytes.
    """
    held = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            first, *further = chunk.split(b"\n")
            held += first
            for begun in further:
                yield _line(held, most)
                held = bytearray(begun)
            if len(held) > most:
                raise _too_long(most)
    if held:
        yield _line(held, most)


def _line(held: bytearray, most: int) -> bytes:
    if len(held) > most:
        raise _too_long(most)
    return bytes(held).removesuffix(b"\r")


def _too_long(most: int) -> Lied:
    return Lied(f"a line of the stream is longer than {most} bytes")


class ServerEvent(NamedTuple):
    """An event of a stream of server-sent events; ``name`` is empty for messages."""

    name: str
    data: bytes


async def events(
    source: AsyncGenerator[bytes], most: int = LINE_MOST
) -> AsyncGenerator[ServerEvent]:
    """Yield the events of a stream of lines.

    Comments and fields other than ``event`` and ``data`` are ignored, but ``error``, in which
    earlier llama-servers report failures, is an event of that name. Raises `Lied` if the data of an
    event is longer than ``most`` bytes.
    """
    name, data, size = "", list[bytes](), 0
    async with aclosing(source):
        async for line in source:
            if not line:
                if data:
                    yield ServerEvent(name, b"\n".join(data))
                name, data, size = "", [], 0
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value.decode(errors="replace")
            elif field in {b"data", b"error"}:
                name = "error" if field == b"error" else name
                data.append(value)
                size += len(value) + 1
                if size > most:
                    raise Lied(f"an event of the stream is longer than {most} bytes")
    if data:
        yield ServerEvent(name, b"\n".join(data))
