"""Content encodings of request bodies: gzip, deflate and zstd, with a limit on the decoded size."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import zstandard
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError

KNOWN: Final = "gzip, deflate, zstd"
# For zstd: input bytes per call, of which 4 can expand to 128 KiB, and the largest window a sender
# may request.
_SLICE: Final = 256
_WINDOW: Final = 8 << 20


class UnknownCoding(ChatsiteError):
    code = "unsupported_content_encoding"
    status = 415
    message = _("This content encoding is not supported. Send the body uncompressed or as gzip.")
    detailed = _(
        "The content encoding %(coding)s is not supported. Send the body uncompressed or as one of "
        "%(known)s."
    )


class BadCoding(ChatsiteError):
    code = "invalid_content_encoding"
    status = 400
    message = _("The body is not what its Content-Encoding says. Send it uncompressed.")


class TooMuch(Exception):
    """The decoded body exceeds the limit."""


def check(coding: str) -> str:
    """Return the normalized name of a supported coding, "" for identity. Raises `UnknownCoding`."""
    name = coding.strip().lower()
    if name in {"", "identity"}:
        return ""
    name = name.removeprefix("x-")
    if name not in _UNPACK:
        raise UnknownCoding(coding=name[:40], known=KNOWN)
    return name


def unpacked(coding: str, data: bytes, most: int) -> bytes:
    """Return the decoded body of at most ``most`` bytes; never decode more than that.

    Raises `BadCoding` or `TooMuch`.
    """
    try:
        return _UNPACK[coding](data, most)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise BadCoding from error


def _gzip(data: bytes, most: int) -> bytes:
    """Decode one or several concatenated members (RFC 1952)."""
    found = bytearray()
    while data:
        found += _inflated(data, most - len(found), 16 + zlib.MAX_WBITS, rest := bytearray())
        data = bytes(rest)
    return bytes(found)


def _deflate(data: bytes, most: int) -> bytes:
    """Decode zlib's format (RFC 9110), or raw deflate, which some clients send."""
    zipped = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflated(data, most, zlib.MAX_WBITS if zipped else -zlib.MAX_WBITS, bytearray())


def _inflated(data: bytes, most: int, wbits: int, rest: bytearray) -> bytes:
    unpacker = zlib.decompressobj(wbits)
    found = unpacker.decompress(data, most + 1)
    if len(found) > most:
        raise TooMuch
    if not unpacker.eof:
        raise EOFError
    rest += unpacker.unused_data
    return found


def _zstd(data: bytes, most: int) -> bytes:
    """Decode one or several frames. The window is limited as in browsers (RFC 8878)."""
    found = bytearray()
    unpacker = None
    for at in range(0, len(data), _SLICE):
        rest = data[at : at + _SLICE]
        while rest:
            if unpacker is None:
                unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
            found += unpacker.decompress(rest)
            if len(found) > most:
                raise TooMuch
            rest = unpacker.unused_data
            if unpacker.eof:
                unpacker = None
    if unpacker is not None:
        raise EOFError
    return bytes(found)


_UNPACK: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
