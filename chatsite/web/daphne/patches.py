"""All private parts of Daphne and Twisted that are used, under public names.

The classes here have no behavior: they give the rest of this package names for what the
libraries keep private, and hooks where the libraries have none. `install` replaces classes of
Daphne and Twisted with ours. A new version of either may change any of this: supported versions
are in `chatsite.supported`, and a test checks every name below.
"""

from __future__ import annotations

# Before any other import of Twisted: it selects the event loop.
import daphne.server  # isort: skip

from typing import Any, Final

from daphne import http_protocol
from daphne.cli import CommandLineInterface
from twisted.internet import tcp
from twisted.web import http

PRIVATE_NAMES: Final = {
    "daphne.server.HTTPFactory": "Replaced: Daphne has no option for the class of connections.",
    "daphne.server.WebSocketFactory": "Replaced: Daphne has no option for the class of sockets.",
    "daphne.cli.CommandLineInterface.server_class": (
        "Replaced: Daphne has no option for the class of the server."
    ),
    "daphne.http_protocol.WebRequest._response_started": (
        "Tells whether an error response can still be sent."
    ),
    "twisted.internet.tcp.Port.transport": "Replaced: it sets the class of accepted connections.",
    "twisted.internet.abstract.FileDescriptor._tempDataBuffer": (
        "Tells whether output is buffered: later writes must follow it."
    ),
    "twisted.internet.abstract.FileDescriptor._writeDisconnected": (
        "Tells whether our side of the connection is closed."
    ),
    "twisted.web.http.HTTPChannel._command": "The method, known before the body has arrived.",
    "twisted.web.http.HTTPChannel._path": "The request target, known before the body has arrived.",
    "twisted.web.http.HTTPChannel._version": "The HTTP version, known before the body has arrived.",
    "twisted.web.http.HTTPChannel._receivedHeaderSize": (
        "Twisted closes the connection if the headers are too large; we send a response."
    ),
    "twisted.web.http.HTTPChannel._networkProducer": (
        "The transport, which pauses and resumes reading; pausing the channel pauses writing."
    ),
    "twisted.web.http.HTTPChannel._send100Continue": (
        "Overridden: sent only when the application reads the body."
    ),
    "twisted.web.http.Request._cleanup": (
        "Overridden: the next request waits until the body of this one has been received."
    ),
}

# Twisted's annotations differ from what it accepts.
_HTTPChannel: Any = http.HTTPChannel


class Channel(_HTTPChannel):  # type: ignore[misc]  # untyped library
    """`twisted.web.http.HTTPChannel`. Override: `continue_expected`."""

    @property
    def target(self) -> bytes:
        """The target in the request line; empty before that has arrived."""
        found: bytes = getattr(self, "_path", b"")
        return found

    @target.setter
    def target(self, target: bytes) -> None:
        self._path = target

    @property
    def method(self) -> bytes:
        found: bytes = self._command
        return found

    @property
    def http_version(self) -> bytes:
        found: bytes = self._version
        return found

    @property
    def header_bytes(self) -> int:
        """Bytes received so far for the headers of the current request."""
        found: int = self._receivedHeaderSize
        return found

    def pause_reading(self) -> None:
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        self._networkProducer.resumeProducing()

    def continue_expected(self) -> None:
        """Handle a client that waits for 100 Continue."""
        self.send_continue()

    def send_continue(self) -> None:
        super()._send100Continue()

    def _send100Continue(self) -> None:  # noqa: N802  (Twisted's name)
        self.continue_expected()


class Request(http_protocol.WebRequest):  # type: ignore[misc]  # untyped library
    """`daphne.http_protocol.WebRequest`. Override: `answered`."""

    @property
    def response_started(self) -> bool:
        found: bool = self._response_started
        return found

    def answered(self) -> None:
        """Let the connection handle the next request, after the response has been written."""
        super()._cleanup()

    def _cleanup(self) -> None:
        self.answered()


class Connection(tcp.Server):
    """`twisted.internet.tcp.Server`."""

    TLS: bool
    _tempDataBuffer: list[bytes]  # noqa: N815  (Twisted's name)
    _writeDisconnected: bool  # noqa: N815

    @property
    def takes_writes(self) -> bool:
        """Whether the socket can be written to directly: nothing is pending or closing."""
        waiting = self.dataBuffer or self._tempDataBuffer
        ending = self.TLS or self.disconnecting or self._writeDisconnected
        return bool(self.connected) and not waiting and not ending


def install(
    server: type[daphne.server.Server],
    requests: type,
    sockets: type,
    connection: type[tcp.Server],
) -> None:
    """Replace classes of Daphne and Twisted.

    Daphne's command line then starts ``server`` with the factories ``requests`` and ``sockets``,
    and Twisted creates a ``connection`` for each accepted socket.
    """
    tcp.Port.transport = connection
    daphne.server.HTTPFactory = requests
    daphne.server.WebSocketFactory = sockets
    CommandLineInterface.server_class = server
