"""The ``context`` of Ollama's `/api/generate`: the conversation as a list of numbers.

A client sends it back to continue. Ollama's numbers are tokens. Here they encode the messages
themselves, so no state is kept between requests, and no number can become a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.api.core.http import BadField
from chatsite.engine.contract.messages import ChatMessage

# Bytes per number; this keeps a context about as long as its tokens would be.
_BYTES = 3
Said = tuple[Literal["system", "user", "assistant"], str]
_decoder = msgspec.msgpack.Decoder(list[Said])


def pack(messages: Sequence[ChatMessage]) -> list[int]:
    """Return the number of bytes, followed by the bytes, as integers."""
    packed = msgspec.msgpack.encode([(one.role, one.content) for one in messages])
    parts = [packed[at : at + _BYTES] for at in range(0, len(packed), _BYTES)]
    return [len(packed), *(int.from_bytes(part.ljust(_BYTES, b"\0")) for part in parts)]


def unpack(context: Sequence[int]) -> list[ChatMessage]:
    """Return the packed messages. Raises `BadField` for anything that `pack` did not make."""
    try:
        length, *numbers = context
        packed = b"".join(number.to_bytes(_BYTES) for number in numbers)[:length]
        return [ChatMessage(role, text) for role, text in _decoder.decode(packed)]
    except (ValueError, OverflowError, msgspec.MsgspecError):
        raise BadField(
            _("context: not created by this server. Omit it, or use /api/chat."),
            param="context",
        ) from None
