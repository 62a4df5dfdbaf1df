"""Sends new events to a syslog server (`CHATSITE_AUDIT_SYSLOG`).

The drainer's thread does it, so no request waits. How far it got is in the database: after an
outage of the server, or a restart, it continues there. An event may be sent twice, never skipped;
over UDP it may get lost on the way. One machine sends at a time, by a lease.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from chatsite.audit import formats
from chatsite.audit.models import Chain, Event, Forwarding

log = logging.getLogger(__name__)

_BATCH: Final = 200
_LEASE: Final = timedelta(seconds=30)
_TIMEOUT: Final = 5.0
_BACKOFF_MOST: Final = 60.0
_DEFAULT_PORT: Final = 514
SENDER: Final = secrets.token_hex(16)


class _Connection:
    """A socket to the server; TCP messages are framed by their length (RFC 6587)."""

    def __init__(self, destination: str) -> None:
        parts = urlsplit(destination)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
        self._stream = parts.scheme == "tcp"
        if self._stream:
            self._socket = socket.create_connection((host, port), _TIMEOUT)
        else:
            family, kind, *_rest, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[
                0
            ]
            self._socket = socket.socket(family, kind)
            self._socket.settimeout(_TIMEOUT)
            self._socket.connect(address)

    def send(self, events: list[Event]) -> None:
        messages = [formats.as_syslog(event).encode() for event in events]
        if self._stream:
            self._raise_if_closed()
            self._socket.sendall(b"".join(b"%d %s" % (len(one), one) for one in messages))
            return
        for one in messages:
            self._socket.send(one)

    def _raise_if_closed(self) -> None:
        """A server that closed the connection would lose what is sent before TCP notices."""
        self._socket.setblocking(False)
        try:
            if self._socket.recv(1024) == b"":
                raise ConnectionResetError("the syslog server closed the connection")
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(_TIMEOUT)

    def close(self) -> None:
        self._socket.close()


class Forwarder:
    def __init__(self, destination: str) -> None:
        self._destination = destination
        self._connection: _Connection | None = None
        self._sent: int | None = None
        self._failures = 0
        self.retry_at = 0.0

    def send_new(self) -> None:
        """Send what is new; after a failure not before a growing pause is over."""
        if time.monotonic() < self.retry_at or not self._is_behind() or not self._lease():
            return
        try:
            while batch := self._next():
                if self._connection is None:
                    self._connection = _Connection(self._destination)
                self._connection.send(batch)
                self._sent = batch[-1].sequence
                if not self._own().update(sequence=self._sent, until=timezone.now() + _LEASE):
                    self._sent = None  # another machine took over
                    return
        except OSError as error:
            self._fail(error)
        else:
            if self._failures:
                self._failures = 0
                log.warning("Syslog server accepts audit events again")

    def _is_behind(self) -> bool:
        last = Chain.objects.filter(pk=1).values_list("sequence", flat=True).first() or 0
        return self._sent is None or self._sent < last

    def _lease(self) -> bool:
        """Take or renew the right to send."""
        now = timezone.now()
        Forwarding.objects.bulk_create(
            [Forwarding(destination=self._destination)], ignore_conflicts=True
        )
        free = Q(sender=SENDER) | Q(until=None) | Q(until__lt=now)
        leased = Forwarding.objects.filter(free, destination=self._destination).update(
            sender=SENDER, until=now + _LEASE
        )
        if leased:
            self._sent = self._own().values_list("sequence", flat=True).get()
        return bool(leased)

    def _next(self) -> list[Event]:
        return list(Event.objects.filter(sequence__gt=self._sent).order_by("sequence")[:_BATCH])

    def _own(self) -> QuerySet[Forwarding]:
        return Forwarding.objects.filter(destination=self._destination, sender=SENDER)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fail(self, error: OSError) -> None:
        self.close()
        if not self._failures:
            log.error("Syslog server does not accept audit events", extra={"error": error})
        self._failures += 1
        self.retry_at = time.monotonic() + min(_BACKOFF_MOST, 2.0**self._failures)


_forwarders: dict[str, Forwarder] = {}


def send_new() -> None:
    """Send new events to the configured server, if there is one. Raises `DatabaseError`."""
    destination = settings.ENV.audit_syslog
    if destination:
        _forwarders.setdefault(destination, Forwarder(destination)).send_new()
