"""Server-sent events, written by hand from msgspec: one write per entry of a stream."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from chatsite.api.http import encode, error_body
from chatsite.api.requests import Event
from chatsite.errors import ChatsiteError
from chatsite.stream.hub import Place

DONE = b"data: [DONE]\n\n"
# Silence after which proxies and impatient clients get a sign of life. Until the first one
# nothing is sent, so that what fails at once is an ordinary refusal with its status.
_SIGN_SECONDS = 2.0


@dataclass
class Signs:
    """Comment lines while nothing else comes; clients skip them, people read them with curl."""

    sent: bool = False
    _last: float = field(default_factory=time.monotonic)
    _text: str = "waiting"

    def of(self, event: Event) -> bytes:
        """The comment that is due now, or nothing."""
        if isinstance(event, Place):
            self._text = f"waiting, {event.ahead} ahead, model {event.model}"
        now = time.monotonic()
        if now - self._last < _SIGN_SECONDS:
            return b""
        self._last = now
        self.sent = True
        return f": {self._text}\n\n".encode()


def data(value: object) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def stream_error(error: ChatsiteError) -> bytes:
    """The last event of a stream that failed; no `[DONE]` follows."""
    return data(error_body(error))
