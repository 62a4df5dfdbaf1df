"""Daphne with limits on the size and slowness of requests.

Daphne receives a whole body before it calls the application, and then puts all of it into a queue
in memory. Here the application is called as soon as the headers have arrived; it decides whether it
wants the body, and reads it from a `BodyStream` with backpressure on the client.

After an early response the rest of the request is still read for a while: many clients read no
response before they have written their request.
"""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final

from daphne import http_protocol
from daphne import server as daphne_server
from django.conf import settings
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from chatsite.api.core import body_sizes, body_stream, front
from chatsite.errors import BadRequest, ChatsiteError, HeadersTooLarge
from chatsite.web import proxies
from chatsite.web.daphne import patches
from chatsite.web.daphne.connections import LOOK_SECONDS, connections
from chatsite.web.daphne.sockets import Socket

# How much is still read from a client after an early response.
_LATE_BYTES: Final = 64 << 20
_LATE_SECONDS: Final = 10.0
# The same after refused headers, and after a connection is closed by the server.
_LINGER_BYTES: Final = 1 << 20
_LINGER_SECONDS: Final = 5.0
# A body that arrives more slowly than this for too long times out.
_BYTES_PER_SECOND: Final = 1024
# WebSocket's code for a server that restarts: clients reconnect (RFC 6455, IANA registry).
SERVICE_RESTART: Final = 1012
_SOCKET_PAUSE_SECONDS: Final = 0.01
_DRAIN_POLL_SECONDS: Final = 0.1
# Each connection is checked for pings and timeouts that often, all in so many rounds: thousands of
# pings at once would delay the text of all.
_CHECK_SECONDS: Final = 5.0
_CHECK_ROUNDS: Final = 10
_CANCEL_SECONDS: Final = 3.0
# The listen backlog. Twisted's 50 are too few for a few hundred concurrent connects while the CPUs
# are busy: the kernel then resets some of them.
_BACKLOG: Final = 1024
# Twisted's annotation lacks some of its methods.
_reactor: Any = reactor
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


class Channel(patches.Channel):
    """A connection with timeouts while it waits for its client.

    It waits for complete headers, for progress of a body, and between requests. Responses have no
    timeout.
    """

    requestFactory: Any  # noqa: N815
    factory: Any
    due: float | None = None
    _fresh = True
    _leaving = False
    _discarded = 0

    def connectionMade(self) -> None:  # noqa: N802  (Twisted's name)
        super().connectionMade()
        self.due = time.monotonic() + settings.ENV.client_header_seconds
        connections.watch(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._leaving:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.transport.abortConnection()
            return
        if self._fresh:
            self._fresh = False
            self.due = time.monotonic() + settings.ENV.client_header_seconds
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        if self.header_bytes + len(line) > self.totalHeadersSize:
            self._refuse(HeadersTooLarge(limit=self.totalHeadersSize >> 10))
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        self._refuse(HeadersTooLarge(limit=self.totalHeadersSize >> 10))

    def allHeadersReceived(self) -> None:  # noqa: N802
        self.due = None
        # The absolute form as sent to proxies, which servers must accept (RFC 9112, 3.2.2).
        if absolute := _ABSOLUTE.fullmatch(self.target):
            self.requests[-1].requestHeaders.setRawHeaders(b"Host", [absolute[1]])
            target = absolute[2]
            self.target = target if target.startswith(b"/") else b"/" + target
        super().allHeadersReceived()

    def continue_expected(self) -> None:
        """Delay 100 Continue until the application wants the body."""
        request = self.requests[-1]
        if request.body is None:
            self.send_continue()
        else:
            request.expects = True

    def requestDone(self, request: Any) -> None:  # noqa: N802
        self.due = time.monotonic() + settings.ENV.client_idle_seconds
        self._fresh = True
        super().requestDone(request)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self.due = None
        connections.forget(self)
        super().connectionLost(reason)

    def give_up(self) -> None:
        """Handle a timeout of the client."""
        request = self.requests[-1] if self.requests else None
        if self._leaving:
            self.transport.abortConnection()
        elif request is not None and request.body is not None:
            request.body.fail(body_stream.TooSlow)
        elif self._fresh or request is None:
            self._leaving = True
            self.due = time.monotonic() + _LINGER_SECONDS
            self.loseConnection()
        else:
            self._refuse(_HeadTooSlow())

    def _refuse(self, error: ChatsiteError) -> None:
        """Send an error and close the connection.

        The client may still be writing: closing a connection with unread data resets it, and the
        response may be lost. So reading continues for a while.
        """
        if self._leaving:
            return
        path = _local(self.target)
        headers, body = _refusal(path, error)
        status = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()
        lines = [status, *(b": ".join(header) for header in headers), b"connection: close"]
        self._leaving = True
        self.due = time.monotonic() + _LINGER_SECONDS
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.loseWriteConnection()


def _is_request(protocol: object) -> bool:
    """Return whether ``protocol`` is a request whose response is not complete."""
    return isinstance(protocol, Request) and not protocol.finished


def _local(target: bytes) -> str:
    """Return the path of a request target from the site's root."""
    path = target.partition(b"?")[0].decode("latin-1")
    return proxies.without_prefix(path, settings.ENV.path_prefix)


def _refusal(path: str, error: ChatsiteError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    # Importable only once Django's apps are ready, which is after this module is loaded.
    from chatsite.web.daphne import refusal

    return refusal.parts(path, error)


class _HeadTooSlow(BadRequest):
    code = "headers_too_slow"
    status = 408


class Request(patches.Request):
    """A request. ``body`` is None without one. ``expects``: the client waits for 100 Continue."""

    body: body_stream.BodyStream | None = None
    expects = False
    _whole = False
    _paused = False
    _arrived = 0
    _giving_up: asyncio.TimerHandle | None = None
    content: Any

    def process(self) -> Any:
        channel = self.channel
        result = super().process()
        if self.transport is None:
            # It has become a WebSocket, which has timeouts of its own.
            connections.forget(channel)
        return result

    def gotLength(self, length: int | None) -> None:  # noqa: N802  (Twisted's name)
        upgrade = self.requestHeaders.getRawHeaders(b"Upgrade", [b""])[0]
        if length == 0 or upgrade.lower() == b"websocket":
            super().gotLength(length)
            return
        self.body = body_stream.BodyStream(self._pause, self._resume, self._wanted)
        self._begin()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        self._arrived += len(data)
        if self.body is None:
            if self._arrived > body_sizes.FOR_ALL:
                self.channel.loseConnection()
            else:
                super().handleContentChunk(data)
        elif not self.finished:
            channel = self.channel
            if channel.due is not None:
                latest = time.monotonic() + settings.ENV.client_body_seconds
                channel.due = min(latest, channel.due + len(data) / _BYTES_PER_SECOND)
            self.body.put(data)
        elif self._arrived > _LATE_BYTES:
            self._give_up_in(0)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        self.channel.due = None
        if self.body is None:
            super().requestReceived(command, path, version)
            return
        self._whole = True
        self.body.end()
        if self.finished:
            self.answered()

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Send a part of the response.

        Parts of a stream after the first are only framed and written: the checks of Daphne and
        Twisted were made for the first part.
        """
        part = message.get("body")
        goes_on = message.get("more_body") and not self.finished and self.channel is not None
        if part and goes_on and self.chunked and self.startedWriting:
            self.sentLength += len(part)
            self.channel.writeSequence((b"%x\r\n" % len(part), part, b"\r\n"))
        else:
            super().handle_reply(message)

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Send an error of Daphne itself, to API clients in the format that they expect."""
        path = _local(self.uri)
        if self.response_started or not front.for_programs(path):
            super().basic_error(status, status_text, body)
            return
        error = BadRequest(f"{body}.") if status < 500 else ChatsiteError()
        headers, content = _refusal(path, error)
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": content})

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        self._stop_waiting()
        if self.body:
            self.body.fail()
        if self.finished:
            # Daphne has forgotten it.
            super(http_protocol.WebRequest, self).connectionLost(reason)
        else:
            super().connectionLost(reason)

    def answered(self) -> None:
        """Wait for the rest of the body before the connection handles the next request."""
        if self.body is not None and not self._whole:
            if self.expects and not self._arrived:
                self._give_up()  # it never got 100 Continue
                return
            self._arrived = 0
            self.channel.due = None
            self._give_up_in(_LATE_SECONDS)
            self.channel.resume_reading()
            return
        self._stop_waiting()
        super().answered()

    def _give_up_in(self, seconds: float) -> None:
        self._stop_waiting()
        self._giving_up = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._whole = True
        self.channel.persistent = 0
        self.answered()

    def _stop_waiting(self) -> None:
        if self._giving_up:
            self._giving_up.cancel()

    def _wanted(self) -> None:
        """Start the body timeout when the application begins to read."""
        if self._whole or self.channel is None:
            return
        self.channel.due = time.monotonic() + settings.ENV.client_body_seconds
        if self.expects and not self._arrived:
            self.channel.send_continue()

    def _pause(self) -> None:
        self._paused = True
        self.channel.due = None
        self.channel.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self.finished and self.channel is not None:
            self._paused = False
            if not self._whole:
                self.channel.due = time.monotonic() + settings.ENV.client_body_seconds
            self.channel.resume_reading()

    def _begin(self) -> None:
        """Call the application, with an empty regular body."""
        self.content = BytesIO()
        channel = self.channel
        self.method, self.uri = channel.method, channel.target
        self.clientproto = channel.http_version
        self.path = self.uri.split(b"?", 1)[0]
        self.args: dict[bytes, list[bytes]] = {}
        self.process()


class Factory(http_protocol.HTTPFactory):  # type: ignore[misc]  # untyped library
    def buildProtocol(self, addr: Any) -> Channel | None:  # noqa: N802
        if not connections.admit(getattr(addr, "host", "")):
            return None
        channel = Channel()
        # Daphne's own timeout, which would end long responses.
        channel.timeOut = None
        channel.factory = self
        channel.requestFactory = Request
        return channel


class Server(daphne_server.Server):  # type: ignore[misc]  # untyped library
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._to_check: list[Any] = []
        connections.per_address = settings.ENV.client_connections
        self.endpoints: list[str] = [
            f"{one}:backlog={_BACKLOG}" if one.startswith("tcp:") and "backlog=" not in one else one
            for one in kwargs.get("endpoints") or ()
        ]

    def run(self) -> None:
        # Its models need Django's applications, which are ready only now.
        from chatsite.audit import drain

        drain.start()
        _reactor.callLater(LOOK_SECONDS, self._look)
        super().run()

    def _look(self) -> None:
        connections.look()
        _reactor.callLater(LOOK_SECONDS, self._look)

    def timeout_checker(self) -> None:
        """Check a part of the connections."""
        if not self._to_check:
            self._to_check = list(self.connections)
        count = -(-len(self.connections) // _CHECK_ROUNDS)
        due, self._to_check = self._to_check[:count], self._to_check[count:]
        for one in due:
            if one in self.connections:
                one.check_timeouts()
        _reactor.callLater(_CHECK_SECONDS / _CHECK_ROUNDS, self.timeout_checker)

    def kill_all_applications(self) -> Any:
        """Drain, then cancel what still runs. Twisted calls this after SIGTERM and SIGINT."""
        return Deferred.fromFuture(asyncio.ensure_future(self._drain()))

    async def _drain(self) -> None:
        """Accept no more connections, send pages to another server, and let requests finish."""
        deadline = time.monotonic() + settings.ENV.drain_seconds
        for listener in self.listeners:
            listener.addCallback(lambda port: port.stopListening())
        sockets = [one for one in self.connections if isinstance(one, Socket) and one.established]
        # All at once would be a burst of new connections for the others.
        pause = min(_SOCKET_PAUSE_SECONDS, settings.ENV.drain_seconds / (2 * len(sockets) + 1))
        for one in sockets:
            if one.established:
                one.serverClose(code=SERVICE_RESTART)
            await asyncio.sleep(pause)
        while time.monotonic() < deadline and any(map(_is_request, self.connections)):
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        running = [details.get("application_instance") for details in self.connections.values()]
        left = [one for one in running if one is not None and not one.done()]
        for one in left:
            one.cancel()
        if left:
            # One that waits for Redis or the database must not keep the process.
            await asyncio.wait(left, timeout=_CANCEL_SECONDS)

    def create_application(self, protocol: object, scope: dict[str, Any]) -> Any:
        if isinstance(protocol, Request) and protocol.body is not None:
            scope.setdefault("extensions", {})[body_stream.EXTENSION] = protocol.body
        return super().create_application(protocol, scope)
