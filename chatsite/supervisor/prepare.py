"""What must be in order before any process starts: Redis's folders and the database."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from chatsite.env import Environment
from chatsite.supervisor import redis_binary
from chatsite.supervisor.probes import CannotStart, check_external_redis
from chatsite.supervisor.redis_binary import NoRedis, RedisBinary

# Any number that nobody else takes on this database: "chatsite" in ASCII.
_MIGRATION_LOCK = 0x6368617473697465


def redis(environment: Environment) -> RedisBinary | None:
    """The server to run, None when one is given by `CHATSITE_REDIS_URL`."""
    if environment.redis_url:
        check_external_redis(environment.redis_url)
        return None
    try:
        binary = redis_binary.find()
    except NoRedis as error:
        raise CannotStart(str(error)) from None
    for folder in (environment.data_dir / "redis", environment.redis_socket.parent):
        _private(folder)
    return binary


def _private(folder: Path) -> None:
    """Makes ``folder`` ours alone. In the system's temporary folder somebody else may have
    made one of that name to lay hands on what we write."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise CannotStart(f"{folder} belongs to somebody else. Remove it, then start again.")
    folder.chmod(0o700)


def database() -> int:
    """Applies the migrations that are missing; returns how many. Leaves no connection open."""
    try:
        with _migration_lock():
            executor = MigrationExecutor(connection)
            plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
            if plan:
                call_command("migrate", interactive=False, verbosity=0)
            return len(plan)
    except DatabaseError as error:
        where = connection.settings_dict["NAME"]
        raise CannotStart(
            f"The database {where} can't be used: {error}. Check that it runs and that "
            "DATABASE_URL is right."
        ) from None
    finally:
        connection.close()


@contextlib.contextmanager
def _migration_lock() -> Iterator[None]:
    """Several boxes on one PostgreSQL migrate one after the other. SQLite belongs to one data
    folder, which is locked already."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATION_LOCK])


def close_database() -> None:
    """A pool would keep connections and threads in the supervisor, which needs neither."""
    connection.close()
    close_pool = getattr(connection, "close_pool", None)
    if close_pool is not None:
        close_pool()
