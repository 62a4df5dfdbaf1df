"""Frames on the pipe: 4 bytes of length (unsigned, little endian), then MessagePack.

The child reads and writes blocking file descriptors, the host asyncio streams. Both ends refuse a
frame above `MAX_FRAME` before they allocate or send anything for it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

import msgspec

from chatsite.engine.contract.messages import ToChild, ToHost

MAX_FRAME: Final = 32 * 1024 * 1024  # bytes, without the length
_LENGTH: Final = 4

_encoder = msgspec.msgpack.Encoder()
_child_decoder: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_host_decoder: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)


class FrameError(Exception):
    """The peer sent an invalid frame, or this side was about to: the pipe is unusable."""


class FrameTooLarge(FrameError):
    """A frame of ``size`` bytes exceeds `MAX_FRAME`."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a frame of {size} bytes exceeds the limit of {MAX_FRAME}")
        self.size = size


def encode(frame: ToChild | ToHost) -> bytes:
    """Return length and body. Raise `FrameTooLarge` before anything is sent."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME:
        raise FrameTooLarge(len(body))
    return len(body).to_bytes(_LENGTH, "little") + body


def decode_to_child(body: bytes) -> ToChild:
    """Decode a frame and check the ranges of its fields. Raise `FrameError` if it is invalid."""
    try:
        return _child_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"not a valid frame to an engine: {error}") from error


def decode_to_host(body: bytes) -> ToHost:
    """Decode a frame. Raise `FrameError` if it is invalid."""
    try:
        return _host_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"not a valid frame from an engine: {error}") from error


# The child's side: blocking file descriptors.


def read_frame(descriptor: int) -> ToChild | None:
    """Return the next frame, or None when the host closed the pipe between two frames."""
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
    """Write a whole frame. Raise `BrokenPipeError` when the host is gone."""
    rest = memoryview(encode(frame))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_exactly(descriptor: int, size: int) -> bytes:
    """Return ``size`` bytes, or fewer at the end of the pipe."""
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
    """Return the next frame, or None when the child closed the pipe.

    This includes a close in mid-frame: a child that dies may leave a partial frame, and its exit
    status says more than the fragment.
    """
    try:
        size = _checked(await reader.readexactly(_LENGTH))
        body = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None
    return decode_to_host(body)


async def transmit(writer: asyncio.StreamWriter, frame: ToChild) -> None:
    """Send a frame. Raise `ConnectionError` when the child is gone."""
    writer.write(encode(frame))
    await writer.drain()
