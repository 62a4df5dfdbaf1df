"""A full disk is recognized in every error that reports it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from django.db import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from chatsite.faults import is_storage_full, queue_fault, server_fault


def test_low_a_full_file_system() -> None:
    with (
        pytest.raises(OSError, match="space") as caught,
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert server_fault(caught.value).code == "storage_full"


def test_low_a_database_without_room_also_behind_djangos_error(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "small.sqlite3")
    database.execute("CREATE TABLE t (x)")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")
    database.close()
    error = OperationalError("as Django raises it")
    error.__cause__ = caught.value
    assert server_fault(error).code == "storage_full"


def test_low_postgresql_by_its_code() -> None:
    class DiskFull(Exception):
        sqlstate = "53100"

    error = OperationalError("x")
    error.__cause__ = DiskFull()
    assert is_storage_full(error)


def test_low_redis_that_cannot_write_its_file() -> None:
    text = "MISCONF Errors writing to the AOF file: No space left on device"
    assert queue_fault(ResponseError(text)).code == "storage_full"
    assert queue_fault(RedisConnectionError("away")).code == "streams_unavailable"


def test_low_other_failures_are_not_a_full_disk() -> None:
    assert server_fault(OperationalError("database is locked")).code == "error"
    assert not is_storage_full(PermissionError(13, "Permission denied"))
