"""WebSockets with backpressure: read no faster than the application consumes messages.

Autobahn parses all received frames in one go, copying the rest once for each, and Daphne puts
them into an unbounded queue: a client that sends a hundred thousand tiny frames would block all
other clients and fill the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from daphne import ws_protocol

# Bytes parsed per iteration of the event loop: some hundred of the smallest frames.
_SLICE_BYTES: Final = 2048
# Messages queued for the application before reading from the client is paused.
_MESSAGES_MOST: Final = 50
_PAUSE_SECONDS: Final = 0.02


class Socket(ws_protocol.WebSocketProtocol):  # type: ignore[misc]  # untyped library
    application_queue: asyncio.Queue[Any] | None = None
    transport: Any
    _unread = b""
    _scheduled = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  (Twisted's name)
        if self._scheduled:
            self._unread += data  # from a read that was in progress when reading was paused
        elif len(data) <= _SLICE_BYTES and not self._is_behind:
            super().dataReceived(data)
        else:
            self._unread = data
            self.transport.pauseProducing()
            self._schedule(0)

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802  (Daphne's name)
        """Close with any code: Autobahn's public method has none for a policy violation."""
        self.sendCloseFrame(code=1000 if code is None else code)

    @property
    def established(self) -> bool:
        """Whether the handshake is done and no side has closed."""
        return bool(self.state == self.STATE_OPEN)

    @property
    def _is_behind(self) -> bool:
        queue = self.application_queue
        return queue is not None and queue.qsize() >= _MESSAGES_MOST

    def _schedule(self, seconds: float) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        if self.state == self.STATE_CLOSED or not self.transport.connected:
            self._unread = b""
        elif self.state == self.STATE_CLOSING:
            # Only the reply to our close frame still matters, and that may be lost.
            self._unread = b""
            self.transport.resumeProducing()
        elif self._is_behind:
            self._schedule(_PAUSE_SECONDS)
        else:
            some, self._unread = self._unread[:_SLICE_BYTES], self._unread[_SLICE_BYTES:]
            super().dataReceived(some)
            if self._unread:
                self._schedule(0)
            else:
                self.transport.resumeProducing()


class Factory(ws_protocol.WebSocketFactory):  # type: ignore[misc]  # untyped library
    protocol = Socket
