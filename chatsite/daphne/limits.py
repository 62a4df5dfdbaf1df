"""How large a request's body may be."""

from __future__ import annotations

from typing import Final

from django.conf import settings

# Conversations that a page brings in; the pieces of its uploads are smaller.
_PAGE_BYTES: Final = 16 << 20
_HEAD_ROOM: Final = 64 << 10


def most() -> int:
    """Bytes, but for those that are read as they arrive."""
    return max(settings.ENV.api_body_mb << 20, _PAGE_BYTES) + _HEAD_ROOM
