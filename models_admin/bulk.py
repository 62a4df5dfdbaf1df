"""The bodies of large files from outside: blocking, one connection each, read into the caller's
buffer, which costs a third of what an event loop does. What may be asked is decided in
`outside.py`.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import httpx
from django.utils.translation import gettext_lazy as _

from models_admin import outside


@dataclass(frozen=True)
class Body:
    """An answer behind its redirects, whatever its status."""

    status: int
    headers: http.client.HTTPMessage
    _host: str
    _socket: socket.socket
    _response: http.client.HTTPResponse

    def readinto(self, buffer: memoryview) -> int:
        """Bytes of the body that were put into ``buffer``; 0 at its end. Raises `FetchFailed`
        when it stalls or breaks off."""
        try:
            return self._response.readinto(buffer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise outside.failed(self._host, error) from error

    def abort(self) -> None:
        """Lets a `readinto` that waits in another thread end."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already

    @cached_property
    def entity_tag(self) -> str:
        """A strong validator, to ask for more of the same content; empty without one."""
        tag = str(self.headers.get("ETag", ""))
        return tag if tag.startswith('"') else ""


@contextmanager
def get(
    url: str, *, headers: dict[str, str], token: str = "", stall_seconds: float = 30.0
) -> Iterator[Body]:
    """``token`` is sent as Bearer to the origin of ``url`` and to no other. Raises
    `FetchRefused`, or `FetchFailed` when nothing comes for ``stall_seconds``."""
    target = outside.parse(url)
    first = outside.origin(target)
    for _hop in range(outside.REDIRECTS_MAX + 1):
        sent = {"Accept-Encoding": "identity", "User-Agent": "chatsite", **headers}
        if token and outside.origin(target) == first:
            sent["Authorization"] = f"Bearer {token}"
        with _request(target, sent, stall_seconds) as body:
            location = body.headers.get("Location")
            if body.status not in outside.REDIRECTS or location is None:
                yield body
                return
            target = outside.parse(str(target.join(location)))
    raise outside.refused(_("%s redirects too often."), url)


@contextmanager
def _request(target: httpx.URL, headers: dict[str, str], stall_seconds: float) -> Iterator[Body]:
    address = outside.checked_address(target)
    host = target.host
    try:
        connected = socket.create_connection(
            (address, outside.port_of(target)), timeout=outside.CONNECT_SECONDS
        )
    except OSError as error:
        raise outside.failed(host, error) from error
    with connected:
        try:
            if target.scheme == "https":
                connected = ssl.create_default_context().wrap_socket(
                    connected, server_hostname=host
                )
            connected.settimeout(stall_seconds)
            connection = http.client.HTTPConnection(target.netloc.decode("ascii"))
            connection.sock = connected
            connection.request("GET", target.raw_path.decode("ascii"), headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise outside.failed(host, error) from error
        with connected, response:
            yield Body(response.status, response.headers, host, connected, response)
