"""Connections that write immediately.

Twisted defers each write to the next iteration of the event loop and makes two system calls to
register interest for it. That costs more than the write, and every token of every stream is one.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatsite.web.daphne import patches
from chatsite.web.daphne.connections import connections


class Connection(patches.Connection):
    """What the socket does not accept immediately is sent in the regular way, in order."""

    client: tuple[str, int]

    def write(self, data: bytes) -> None:
        if self.takes_writes and data:
            try:
                data = data[self.socket.send(data) :]
            except OSError:
                pass  # the regular way hits the same error
            if not data:
                return
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, iovec: Iterable[bytes]) -> None:  # noqa: N802  (Twisted's name)
        self.write(b"".join(iovec))

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        super().connectionLost(reason)  # type: ignore[arg-type]
        connections.release(self.client[0])
