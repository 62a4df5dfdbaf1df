"""Limits on the number of connections, and timeouts for silent ones.

Each connection has a deadline. All are checked together every second: a timer for each would
cost more than the requests do.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from typing import Protocol
from weakref import WeakSet

LOOK_SECONDS = 1.0


class Timed(Protocol):
    """A connection with a deadline ``due`` by `time.monotonic`; None while there is none."""

    due: float | None

    def give_up(self) -> None: ...


class Connections:
    """The connections of one process.

    ``per_address`` limits those of one address, 0 for no limit; loopback addresses, where a proxy
    may run, are not limited.
    """

    def __init__(self, per_address: int = 0) -> None:
        self.per_address = per_address
        self._open: Counter[str] = Counter()
        self._timed: WeakSet[Timed] = WeakSet()

    def admit(self, host: str) -> bool:
        """Count a connection from ``host``; return False if it has too many."""
        if self.per_address and not _is_here(host) and self._open[host] >= self.per_address:
            return False
        self._open[host] += 1
        return True

    def release(self, host: str) -> None:
        self._open[host] -= 1
        if self._open[host] <= 0:
            del self._open[host]

    def watch(self, one: Timed) -> None:
        self._timed.add(one)

    def forget(self, one: Timed) -> None:
        self._timed.discard(one)

    def look(self) -> None:
        """Close overdue connections."""
        now = time.monotonic()
        for one in [one for one in self._timed if one.due is not None and one.due < now]:
            one.due = None
            one.give_up()


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True  # a Unix socket


# Of this process.
connections = Connections()
