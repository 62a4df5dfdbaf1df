"""Connections that failed are replaced, also those that wait in the pool."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from chatsite import database


@dataclass
class Connection:
    errors_occurred: bool
    in_atomic_block: bool = False
    calls: list[str] = field(default_factory=list)

    def close(self) -> None:
        self.calls.append("close")

    def check(self) -> None:
        self.calls.append("check the pool")

    @property
    def pool(self) -> Connection:
        return self


@pytest.mark.parametrize(
    ("connection", "calls"),
    [
        (Connection(errors_occurred=True), ["close", "check the pool"]),
        (Connection(errors_occurred=False), []),
        (Connection(errors_occurred=True, in_atomic_block=True), []),
    ],
)
def test_a_failed_connection_is_replaced(
    monkeypatch: pytest.MonkeyPatch, connection: Connection, calls: list[str]
) -> None:
    monkeypatch.setattr(database, "connection", connection)
    database.renew_failed_connection()
    assert connection.calls == calls
