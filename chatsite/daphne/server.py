"""Daphne with bounds on what a client may send.

Daphne takes a whole body before it asks the application, and then puts all of it into a queue in
memory. Here a body has a limit; to addresses that take more, the application is asked as soon as
the headers are there and reads the body from a `Feed`, while the client waits for it.

A client that is answered before it has sent everything is listened to for a while: many read no
answer before they have written their request.
"""

from __future__ import annotations

import asyncio
import re
from io import BytesIO
from typing import Any, Final

from daphne import http_protocol
from daphne import server as daphne_server

from chatsite.daphne import feed, limits

_STREAMED: Final = re.compile(rb"/+api/+blobs/+[^/?]+/*")
# What an answered client may still send.
_LATE_BYTES: Final = 64 << 20
_LATE_SECONDS: Final = 10.0
# Connections that wait to be taken. Twisted's 50 are too few for a few hundred clients that come
# at once while the processors are busy: the kernel then resets some of them.
_BACKLOG: Final = 1024


class Request(http_protocol.WebRequest):  # type: ignore[misc]  # untyped library
    """``body`` is there where it is read as it arrives; ``refused`` means that it is too large."""

    body: feed.Feed | None = None
    refused = False
    _begun = False
    _whole = False
    _arrived = 0
    _giving_up: asyncio.TimerHandle | None = None
    content: Any

    def gotLength(self, length: int | None) -> None:  # noqa: N802  (Twisted's name)
        super().gotLength(length)
        if self.requestHeaders.hasHeader(b"Upgrade"):
            return
        channel = self.channel
        if channel._command == b"POST" and _STREAMED.fullmatch(channel._path):
            producer = channel._networkProducer
            self.body = feed.Feed(producer.pauseProducing, producer.resumeProducing)
            self._begin()
        elif length is not None and length > limits.most():
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        self._arrived += len(data)
        if not self._begun:
            if self._arrived <= limits.most():
                super().handleContentChunk(data)
            elif self.requestHeaders.hasHeader(b"Upgrade"):
                self.channel.loseConnection()
            else:
                self._refuse()
        elif self.body and not self.finished:
            self.body.put(data)
        elif self.finished and self._arrived > _LATE_BYTES:
            self._give_up_in(0)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        if not self._begun:
            super().requestReceived(command, path, version)
            return
        self._whole = True
        if self.body:
            self.body.end()
        if self.finished:
            self._cleanup()

    def handle_reply(self, message: dict[str, Any]) -> None:
        """A part of a stream is only framed and sent: all that Daphne and Twisted ask on the way
        was asked with the first one."""
        part = message.get("body")
        goes_on = message.get("more_body") and not self.finished and not self._disconnected
        if part and goes_on and self.chunked and self.startedWriting:
            self.sentLength += len(part)
            self.channel.writeSequence((b"%x\r\n" % len(part), part, b"\r\n"))
        else:
            super().handle_reply(message)

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        self._stop_waiting()
        if self.body:
            self.body.fail()
        if self.finished:
            # Daphne has forgotten it.
            super(http_protocol.WebRequest, self).connectionLost(reason)
        else:
            super().connectionLost(reason)

    def _cleanup(self) -> None:
        """Of Twisted, called when the answer is written: the connection goes on to the next
        request. Not before this one's body is through, or nobody waits for it any longer."""
        if self._begun and not self._whole:
            self._arrived = 0
            self._give_up_in(_LATE_SECONDS)
            self.channel._networkProducer.resumeProducing()
            return
        self._stop_waiting()
        super()._cleanup()

    def _give_up_in(self, seconds: float) -> None:
        self._stop_waiting()
        self._giving_up = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._whole = True
        self.channel.persistent = 0
        self._cleanup()

    def _stop_waiting(self) -> None:
        if self._giving_up:
            self._giving_up.cancel()

    def _refuse(self) -> None:
        self.refused = True
        self._begin()

    def _begin(self) -> None:
        """Asks the application, which finds the ordinary body empty."""
        self._begun = True
        if self.content:
            self.content.close()
        self.content = BytesIO()
        channel = self.channel
        self.method, self.uri = channel._command, channel._path
        self.clientproto = channel._version
        self.path = self.uri.split(b"?", 1)[0]
        self.args: dict[bytes, list[bytes]] = {}
        self.process()


class Factory(http_protocol.HTTPFactory):  # type: ignore[misc]  # untyped library
    def buildProtocol(self, addr: object) -> Any:  # noqa: N802
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = Request
        return protocol


class Server(daphne_server.Server):  # type: ignore[misc]  # untyped library
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.endpoints: list[str] = [
            f"{one}:backlog={_BACKLOG}" if one.startswith("tcp:") and "backlog=" not in one else one
            for one in kwargs.get("endpoints") or ()
        ]

    def create_application(self, protocol: object, scope: dict[str, Any]) -> Any:
        if isinstance(protocol, Request):
            extensions = scope.setdefault("extensions", {})
            if protocol.body:
                extensions[feed.EXTENSION] = protocol.body
            if protocol.refused:
                extensions[feed.REFUSED] = {}
        return super().create_application(protocol, scope)
