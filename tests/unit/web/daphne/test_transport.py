"""Immediate writes on a real socket, with a reactor that only records calls."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Protocol

from chatsite.web.daphne.transport import Connection


class Reactor:
    def __init__(self) -> None:
        self.writers: set[object] = set()
        self.readers: set[object] = set()

    def addWriter(self, one: object) -> None:  # noqa: N802
        self.writers.add(one)

    def removeWriter(self, one: object) -> None:  # noqa: N802
        self.writers.discard(one)

    def addReader(self, one: object) -> None:  # noqa: N802
        self.readers.add(one)

    def removeReader(self, one: object) -> None:  # noqa: N802
        self.readers.discard(one)


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket, Reactor]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(60)
    reactor = Reactor()
    parts: Any = (Protocol(), ("peer", 1), None, 0, reactor)
    connection = Connection(ours, *parts)
    yield connection, theirs, reactor
    ours.close()
    theirs.close()


def test_written_data_is_sent_immediately(pair: tuple[Connection, socket.socket, Reactor]) -> None:
    connection, theirs, reactor = pair
    connection.write(b"one ")
    connection.writeSequence([b"two", b" three"])
    assert not reactor.writers
    assert theirs.recv(100) == b"one two three"


def test_data_for_a_slow_reader_is_queued_in_order(
    pair: tuple[Connection, socket.socket, Reactor],
) -> None:
    connection, theirs, reactor = pair
    sent = b"".join(b"%07d " % number for number in range(1 << 18))
    connection.write(sent)
    connection.write(b"last")
    assert connection in reactor.writers
    came = b""
    while connection in reactor.writers:
        came += theirs.recv(1 << 20)
        assert connection.doWrite() is None
    theirs.setblocking(False)
    while len(came) < len(sent) + 4:
        came += theirs.recv(1 << 20)
    assert came == sent + b"last"


def test_an_end_waits_for_queued_data_and_works_without_any(
    pair: tuple[Connection, socket.socket, Reactor],
) -> None:
    connection, theirs, reactor = pair
    connection.write(b"bye")
    connection.loseConnection()
    assert connection in reactor.writers
    assert connection.doWrite() is not None  # the reactor closes it
    assert theirs.recv(100) == b"bye"


def test_a_peer_that_is_gone_is_left_to_the_reactor(
    pair: tuple[Connection, socket.socket, Reactor],
) -> None:
    connection, theirs, reactor = pair
    theirs.close()
    connection.write(b"nobody")
    assert connection in reactor.writers
    assert connection.doWrite() is not None
