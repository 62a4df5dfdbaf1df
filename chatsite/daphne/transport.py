"""Connections that send what they are given at once.

Twisted puts each write off to the next turn of the loop, and for it tells the kernel twice what it
waits for. That costs more than the sending, and every token of every stream is a write.
"""

from __future__ import annotations

from twisted.internet import tcp


class Connection(tcp.Server):
    """What the socket does not take at once goes the ordinary way."""

    _tempDataLen: int  # noqa: N815  (Twisted's name)

    def startWriting(self) -> None:  # noqa: N802  (Twisted's name)
        # Only for new data behind which nothing waits, not for the end of a connection.
        if self._tempDataLen and not self.dataBuffer:
            failed = self.doWrite()  # type: ignore[no-untyped-call]
            if failed is None and not self.dataBuffer:
                return
        super().startWriting()  # type: ignore[no-untyped-call]
