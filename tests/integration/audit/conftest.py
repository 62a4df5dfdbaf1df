"""An empty spool and chain for each test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chatsite.audit import record as recording
from chatsite.audit.models import Chain, Event, EventTerms
from chatsite.audit.spool import Spool, folder
from tests.support.pages import data_dir, unbuilt

__all__ = ["committed", "data_dir", "spool", "unbuilt", "without_triggers"]


@contextlib.contextmanager
def without_triggers() -> Iterator[None]:
    """Change the tables as somebody who has the database can, who is not held by its triggers."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
            yield
            cursor.execute("SET session_replication_role = origin")
            return
        cursor.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit_%'"
        )
        triggers = cursor.fetchall()
        for name, _sql in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        yield
        for _name, sql in triggers:
            cursor.execute(sql)


@pytest.fixture
def spool(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """The spool of this process, in a data folder of its own."""
    settings.DATA_DIR = tmp_path
    spool = Spool(folder(tmp_path))
    monkeypatch.setattr(recording, "spool", lambda: spool)
    yield spool
    spool.close()


@pytest.fixture
def committed(transactional_db: None) -> Iterator[None]:
    """Remove committed events at the end, which the flush of the test database can't."""
    yield
    with without_triggers(), connection.cursor() as cursor:
        for model in (Event, EventTerms, Chain):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608
        if connection.vendor == "sqlite":
            cursor.execute("INSERT INTO audit_terms(audit_terms) VALUES ('rebuild')")
