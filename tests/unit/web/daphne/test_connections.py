"""Limits on connections per address, and when a connection is closed."""

from __future__ import annotations

import gc
import time
import weakref

from chatsite.web.daphne.connections import Connections


class Timed:
    def __init__(self, due: float | None) -> None:
        self.due, self.given_up = due, 0

    def give_up(self) -> None:
        self.given_up += 1


def test_one_address_has_a_bound_and_this_machine_has_none() -> None:
    connections = Connections(per_address=2)
    assert [connections.admit("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert connections.admit("10.0.0.2")
    assert all(connections.admit(here) for here in ["127.0.0.1", "::1", "127.8.8.8"] * 3)
    connections.release("10.0.0.1")
    assert [connections.admit("10.0.0.1") for _ in range(2)] == [True, False]
    assert all(Connections().admit("10.0.0.1") for _ in range(5000))


def test_overdue_connections_are_closed_once() -> None:
    connections = Connections()
    now = time.monotonic()
    late, early, untimed = Timed(now - 1), Timed(now + 1000), Timed(None)
    for one in (late, early, untimed):
        connections.watch(one)
    connections.look()
    connections.look()
    assert (late.given_up, early.given_up, untimed.given_up) == (1, 0, 0)
    late.due = now - 1
    connections.forget(late)
    connections.look()
    assert late.given_up == 1


def test_closed_connections_are_not_kept() -> None:
    connections, one = Connections(), Timed(None)
    connections.watch(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
