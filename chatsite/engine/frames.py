"""Frames on the pipe: 4 bytes of length (unsigned, little endian), then MessagePack.

The child reads and writes blocking descriptors, the host asyncio streams. Both ends refuse a
frame above `MAX_FRAME` before they allocate or send anything for it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

import msgspec

from chatsite.engine.messages import ToChild, ToHost

MAX_FRAME: Final = 32 * 1024 * 1024  # bytes, without the length
_LENGTH: Final = 4

_encoder = msgspec.msgpack.Encoder()
_child_decoder: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_host_decoder: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)


class FrameError(Exception):
    """The peer sent, or we were about to send, what is not a frame: the pipe is unusable."""


class FrameTooLarge(FrameError):
    def __init__(self, size: int) -> None:
        super().__init__(f"a frame of {size} bytes is above the limit of {MAX_FRAME}")
        self.size = size


def encode(frame: ToChild | ToHost) -> bytes:
    """Returns length and body. Raises `FrameTooLarge`; nothing has been sent then."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME:
        raise FrameTooLarge(len(body))
    return len(body).to_bytes(_LENGTH, "little") + body


def decode_to_child(body: bytes) -> ToChild:
    """Raises `FrameError` for anything but a valid frame, ranges of its fields included."""
    try:
        return _child_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"not a frame to an engine: {error}") from error


def decode_to_host(body: bytes) -> ToHost:
    try:
        return _host_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"not a frame from an engine: {error}") from error


# The child's side: blocking descriptors.


def read_frame(descriptor: int) -> ToChild | None:
    """The next frame, or None when the host closed the pipe between two frames."""
    header = _read_exactly(descriptor, _LENGTH)
    if not header:
        return None
    if len(header) < _LENGTH:
        raise FrameError("the pipe ended inside a frame's length")
    size = _checked(header)
    body = _read_exactly(descriptor, size)
    if len(body) < size:
        raise FrameError(f"the pipe ended after {len(body)} of a frame's {size} bytes")
    return decode_to_child(body)


def write_frame(descriptor: int, frame: ToHost) -> None:
    """Writes all of it. Raises `BrokenPipeError` when the host is gone."""
    rest = memoryview(encode(frame))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_exactly(descriptor: int, size: int) -> bytes:
    """``size`` bytes, or fewer at the end of the pipe."""
    first = os.read(descriptor, size)
    if len(first) == size or not first:
        return first
    parts, missing = [first], size - len(first)
    while missing and (part := os.read(descriptor, min(missing, 1 << 20))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _checked(header: bytes) -> int:
    size = int.from_bytes(header, "little")
    if size > MAX_FRAME:
        raise FrameTooLarge(size)
    return size


# The host's side: asyncio streams.


async def receive(reader: asyncio.StreamReader) -> ToHost | None:
    """The next frame, or None when the child closed the pipe, in mid-frame included: a child
    that dies may leave half a frame behind, and its exit says more than the half."""
    try:
        size = _checked(await reader.readexactly(_LENGTH))
        body = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None
    return decode_to_host(body)


async def transmit(writer: asyncio.StreamWriter, frame: ToChild) -> None:
    """Raises `ConnectionError` when the child is gone."""
    writer.write(encode(frame))
    await writer.drain()
