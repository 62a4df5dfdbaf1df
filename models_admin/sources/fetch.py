"""HTTP requests to other servers, blocking, one connection each.

`egress` decides what may be requested. Bodies are read into the caller's buffer, which takes a
third of the CPU time of an event loop.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from django.utils.translation import gettext_lazy as _

from models_admin.sources import egress

STALL_SECONDS = 30.0
_BLOCK = 64 << 10


@dataclass(frozen=True)
class Reply:
    """A response after all redirects, whatever its status; ``url`` is the last URL."""

    url: str
    status: int
    _host: str
    _socket: socket.socket
    _response: http.client.HTTPResponse
    _expired: threading.Event

    def header(self, name: str) -> str:
        """Return all values of a header, joined by commas; empty if it is absent."""
        return ", ".join(self._response.headers.get_all(name, []))

    @property
    def entity_tag(self) -> str:
        """Return the strong validator for resuming the same content; empty if there is none."""
        tag = self.header("ETag")
        return tag if tag.startswith('"') else ""

    def readinto(self, buffer: memoryview) -> int:
        """Read up to ``len(buffer)`` bytes of the body; return 0 at its end.

        Raises `FetchFailed` if the body stalls or breaks off.
        """
        try:
            return self._response.readinto(buffer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise egress.failed(self._host, error) from error

    def read(self, limit: int) -> bytes:
        """Read the whole body.

        Raises `FetchRefused` if it is longer than ``limit`` bytes, and `FetchFailed` if it stalls
        or breaks off.
        """
        body = bytearray()
        try:
            while block := self._response.read(_BLOCK):
                body += block
                if len(body) > limit:
                    raise egress.refused(_("The response of %s is too large."), self.url)
            if self._expired.is_set():  # without a length, this looks like the end of the body
                raise TimeoutError("deadline exceeded")
            if self._response.length:
                raise http.client.IncompleteRead(bytes(body), self._response.length)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise egress.failed(self._host, error) from error
        return bytes(body)

    def abort(self) -> None:
        """Abort a read that blocks in another thread."""
        _shut_down(self._socket)


@contextmanager
def get(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    token: str = "",
    stall_seconds: float = STALL_SECONDS,
    seconds: float | None = None,
) -> Iterator[Reply]:
    """Request ``url`` and follow its redirects.

    ``token`` is sent as Bearer to the origin of ``url`` only. Raises `FetchRefused`, or
    `FetchFailed` if nothing arrives for ``stall_seconds`` or the body is not read within
    ``seconds``, if given.
    """
    target = egress.parse(url)
    first = egress.origin(target)
    deadline = None if seconds is None else time.monotonic() + seconds
    for _hop in range(egress.REDIRECTS_MAX + 1):
        sent = {"Accept-Encoding": "identity", "User-Agent": "chatsite", **(headers or {})}
        if token and egress.origin(target) == first:
            sent["Authorization"] = f"Bearer {token}"
        with _request(target, sent, stall_seconds, deadline) as reply:
            location = reply.header("Location")
            if reply.status not in egress.REDIRECTS or not location:
                yield reply
                return
            target = egress.parse(str(target.join(location)))
    raise egress.refused(_("Too many redirects from %s."), url)


def read(
    url: str,
    *,
    limit: int,
    seconds: float = 60.0,
    headers: Mapping[str, str] | None = None,
    token: str = "",
) -> tuple[Reply, bytes]:
    """Return a response and its body of at most ``limit`` bytes, within ``seconds``."""
    with get(url, headers=headers, token=token, seconds=seconds) as reply:
        return reply, reply.read(limit)


@contextmanager
def _request(
    target: httpx.URL, headers: dict[str, str], stall_seconds: float, deadline: float | None
) -> Iterator[Reply]:
    address = egress.checked_address(target)
    host = target.host
    try:
        connected = socket.create_connection(
            (address, egress.port_of(target)), timeout=egress.CONNECT_SECONDS
        )
    except OSError as error:
        raise egress.failed(host, error) from error
    with connected:
        try:
            if target.scheme == "https":
                connected = ssl.create_default_context().wrap_socket(
                    connected, server_hostname=host
                )
            connected.settimeout(stall_seconds)
        except OSError as error:
            raise egress.failed(host, error) from error
        with connected, _shut_down_at(deadline, connected) as expired:
            try:
                connection = http.client.HTTPConnection(target.netloc.decode("ascii"))
                connection.sock = connected
                connection.request("GET", target.raw_path.decode("ascii"), headers=headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise egress.failed(host, error) from error
            with response:
                yield Reply(str(target), response.status, host, connected, response, expired)


@contextmanager
def _shut_down_at(deadline: float | None, connected: socket.socket) -> Iterator[threading.Event]:
    """Shut the connection down at ``deadline`` (monotonic) and set the yielded event then.

    A server that sends a byte now and then never reaches the socket's timeout.
    """
    expired = threading.Event()
    if deadline is None:
        yield expired
        return

    def expire() -> None:
        expired.set()
        _shut_down(connected)

    timer = threading.Timer(max(deadline - time.monotonic(), 0), expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _shut_down(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # already closed
