"""Connections that send what they are given at once.

Twisted puts each write off to the next turn of the loop, and for it tells the kernel twice what it
waits for. That costs more than the sending, and every token of every stream is a write.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet import tcp


class Connection(tcp.Server):
    """What the socket does not take at once goes the ordinary way, as does all behind it."""

    TLS: bool
    _tempDataBuffer: list[bytes]  # noqa: N815  (Twisted's name)
    _writeDisconnected: bool  # noqa: N815

    def write(self, data: bytes) -> None:
        if self._is_free and data:
            try:
                data = data[self.socket.send(data) :]
            except OSError:
                pass  # whatever it is, the ordinary way meets it too
            if not data:
                return
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, iovec: Iterable[bytes]) -> None:  # noqa: N802  (Twisted's name)
        self.write(b"".join(iovec))

    @property
    def _is_free(self) -> bool:
        waiting = self.dataBuffer or self._tempDataBuffer
        ending = self.TLS or self.disconnecting or self._writeDisconnected
        return bool(self.connected) and not waiting and not ending
