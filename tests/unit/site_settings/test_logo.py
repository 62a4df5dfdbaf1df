"""Which files are accepted as a logo: by content, not by name."""

from __future__ import annotations

import struct

import pytest
from django.core.exceptions import ValidationError

from chatsite.site_settings.logo import MAX_PIXELS, media_type


def png(width: int = 64, height: int = 64) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"\0\0\0\0"


def jpeg(width: int, height: int) -> bytes:
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + b"\0" * 9
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 9
    return b"\xff\xd8" + app + frame + b"\xff\xd9"


def webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


VP8X = b"\0\0\0\0" + (63).to_bytes(3, "little") + (31).to_bytes(3, "little")
VP8L = b"\x2f" + (63 | 31 << 14).to_bytes(4, "little") + b"\0" * 8
VP8 = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 64, 32) + b"\0" * 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(), "image/png"),
        (jpeg(64, 32), "image/jpeg"),
        *((webp(kind, body), "image/webp") for kind, body in
          ((b"VP8X", VP8X), (b"VP8L", VP8L), (b"VP8 ", VP8))),
    ],
)  # fmt: skip
def test_bitmaps_are_recognized(content: bytes, expected: str) -> None:
    assert media_type(content) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html><script>alert(1)</script>",
        b"GIF89a" + b"\0" * 40,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8\xff\xe0\0\0" + b"\xff" * 40,
        b"RIFF\0\0\0\0WEBPVP9 " + b"\0" * 30,
    ],
)
def test_everything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValidationError, match="PNG, JPEG or WebP"):
        media_type(content)


@pytest.mark.parametrize("content", [png(MAX_PIXELS + 1, 1), png(1, 0), jpeg(1, 60_000)])
def test_the_size_in_pixels_is_bounded(content: bytes) -> None:
    with pytest.raises(ValidationError, match="pixels"):
        media_type(content)
