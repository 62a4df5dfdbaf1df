"""The ``context`` of Ollama's `/api/generate`: what was said so far, as numbers that a client
keeps and sends back. Ollama's are tokens; here they hold the messages themselves, so nothing
needs to be kept between two requests, and no number can become a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.api.http import BadField
from chatsite.engine.messages import ChatMessage

# So many bytes are a number, which keeps a context about as long as its tokens would be.
_BYTES = 3
Said = tuple[Literal["system", "user", "assistant"], str]
_decoder = msgspec.msgpack.Decoder(list[Said])


def pack(messages: Sequence[ChatMessage]) -> list[int]:
    """The number of bytes, then the bytes."""
    packed = msgspec.msgpack.encode([(one.role, one.content) for one in messages])
    parts = [packed[at : at + _BYTES] for at in range(0, len(packed), _BYTES)]
    return [len(packed), *(int.from_bytes(part.ljust(_BYTES, b"\0")) for part in parts)]


def unpack(context: Sequence[int]) -> list[ChatMessage]:
    """Raises `BadField` for what `pack` did not make."""
    try:
        length, *numbers = context
        packed = b"".join(number.to_bytes(_BYTES) for number in numbers)[:length]
        return [ChatMessage(role, text) for role, text in _decoder.decode(packed)]
    except (ValueError, OverflowError, msgspec.MsgspecError):
        raise BadField(
            _("context: this server did not make it. Leave it out, or use /api/chat."),
            param="context",
        ) from None
