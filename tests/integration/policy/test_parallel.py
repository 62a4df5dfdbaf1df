"""Fifty requests at once never take more than the quota, on both databases."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections

from chatsite.policy import models, quotas, snapshot
from chatsite.policy.quotas import Estimate, QuotaReserved
from tests.support.races import at_once, on_postgresql

_TABLES: tuple[Any, ...] = (
    *(ContentType, Permission, Group, get_user_model()),
    *(models.Rule, models.Default, models.Limit, models.Quota),
    *(models.Consumption, models.Reservation, models.Revision),
)


def _race() -> None:
    """Fifty threads reserve 100 of 1050 tokens each: ten get all of it, one the rest."""
    models.Quota.objects.create(unit="tokens", period="month", amount=1050)
    ids = [uuid.uuid4() for _request in range(50)]
    results = at_once(50, lambda number: quotas.reserve(ids[number], 7, Estimate(100, 10)))
    granted = [result for result in results if isinstance(result, int)]
    refused = [result for result in results if isinstance(result, QuotaReserved)]
    assert sorted(granted) == [50, *[100] * 10]
    assert len(refused) == 39
    row = models.Consumption.objects.get()
    assert (row.used, row.reserved) == (0, 1050)

    def settle_twice(number: int) -> None:
        quotas.settle(ids[number], 60)
        quotas.settle(ids[number], 60)

    settled = at_once(50, settle_twice)
    assert not [result for result in settled if isinstance(result, Exception)]
    row.refresh_from_db()
    assert (row.used, row.reserved) == (11 * 60, 0)


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_fifty_requests_at_once_on_postgresql() -> None:
    _race()


@pytest.fixture
def sqlite_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> Iterator[None]:
    """A database file for new threads; that of the test run is in memory, on one connection."""
    name = str(tmp_path / "parallel.sqlite3")
    monkeypatch.setitem(connections.settings["default"], "NAME", name)
    with django_db_blocker.unblock():
        yield


@pytest.mark.skipif(connection.vendor != "sqlite", reason="tests SQLite")
def test_fifty_requests_at_once_on_sqlite(sqlite_file: None) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with connection.constraint_checks_disabled(), connection.schema_editor() as editor:
                for table in _TABLES:
                    editor.create_model(table)
            _race()
        except BaseException as error:  # noqa: BLE001  (raised again below)
            failures.append(error)
        finally:
            connection.close()
            snapshot.forget()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
