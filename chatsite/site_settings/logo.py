"""The site's logo: a small bitmap, recognized by its content.

SVG is refused: it is a document with scripts.
"""

from __future__ import annotations

import hashlib
from typing import Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from chatsite.audit.record import record
from chatsite.site_settings.models import Logo
from chatsite.site_settings.save import save

MAX_BYTES: Final = 512 << 10
MAX_PIXELS: Final = 2048
MEDIA_TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WebP": "image/webp"}
TOO_LARGE: Final = _("The file is larger than %(limit)s KiB. Choose a smaller image.")


def media_type(content: bytes) -> str:
    """Return the media type of an image. Raises `ValidationError` for other content.

    Type and size come from the image's own header, not from a file name.
    """
    found = _png(content) or _webp(content) or _jpeg(content)
    if found is None:
        raise ValidationError(_("Choose a PNG, JPEG or WebP image. SVG is not accepted."), "type")
    name, width, height = found
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        message = _("The image has %(width)s × %(height)s pixels; %(limit)s per side are allowed.")
        figures = {"width": width, "height": height, "limit": MAX_PIXELS}
        raise ValidationError(message, "pixels", figures)
    return MEDIA_TYPES[name]


def _png(content: bytes) -> tuple[str, int, int] | None:
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 33:
        return None
    return "PNG", int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def _webp(content: bytes) -> tuple[str, int, int] | None:
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < 30:
        return None
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L" and content[20] == 0x2F:
        bits = int.from_bytes(content[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    else:
        return None
    return "WebP", width, height


def _jpeg(content: bytes) -> tuple[str, int, int] | None:
    """Read the size from the start of the frame; segments before it are skipped."""
    if content[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = (int.from_bytes(content[of : of + 2]) for of in (at + 5, at + 7))
            return "JPEG", width, height
        if length < 2:
            return None
        at += 2 + length
    return None


def change(content: bytes | None, *, request: HttpRequest | None = None, by: str = "") -> None:
    """Store a logo; None removes it. Raises `ValidationError`."""
    digest = ""
    with transaction.atomic():
        Logo.objects.all().delete()
        if content is not None:
            kind = media_type(content)
            digest = hashlib.sha256(content).hexdigest()
            Logo.objects.create(digest=digest, content=content, media_type=kind)
        save({"logo": digest}, by=by, request=request)
    record("settings.logo_changed", request=request, user=by or None, digest=digest)
