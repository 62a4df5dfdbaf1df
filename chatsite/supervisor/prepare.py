"""What must be in place before any process starts: Redis's folders and the database."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from chatsite import checks
from chatsite.env import Environment
from chatsite.supervisor import redis_binary
from chatsite.supervisor.probes import CannotStart, check_external_redis
from chatsite.supervisor.redis_binary import NoRedis, RedisBinary

# The ID of an advisory lock that nothing else on this database uses: "chatsite" in ASCII.
_MIGRATION_LOCK = 0x6368617473697465
_LOCK_POLL_SECONDS = 0.2


def redis(environment: Environment) -> RedisBinary | None:
    """Return the server to run; None if `CHATSITE_REDIS_URL` is set. Raises `CannotStart`."""
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
    """Create ``folder`` with access for this user only. Raises `CannotStart`.

    In the system's temporary folder another user may have created one of that name to access
    what is written there.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise CannotStart(f"{folder} belongs to another user. Remove it, then start again.")
    folder.chmod(0o700)


def database() -> int:
    """Apply missing migrations and close the connection; return how many. Raises `CannotStart`."""
    try:
        if problem := checks.undeclared_pooler():
            raise CannotStart(f"{problem.msg} {problem.hint}")
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
    """Serialize the migrations of several starts on one database.

    On PostgreSQL the lock belongs to a transaction on a connection of its own: behind a pooler in
    transaction mode, a lock of the session would stay with a server connection that others use.
    SQLite belongs to one data folder, which has a file for it.
    """
    if connection.vendor != "postgresql":
        with (Path(settings.DATA_DIR) / "run" / "migrate.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    holder = connection.copy()
    try:
        holder.set_autocommit(False)
        while not _taken(holder):
            # Waiting in the server would keep one of the pooler's few connections.
            holder.rollback()
            time.sleep(_LOCK_POLL_SECONDS)
        yield
        holder.rollback()
    finally:
        holder.close()


def _taken(holder: BaseDatabaseWrapper) -> bool:
    with holder.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
        return bool(cursor.fetchone()[0])


def close_database() -> None:
    """Close the pool, whose connections and threads the supervisor does not need."""
    connection.close()
    close_pool = getattr(connection, "close_pool", None)
    if close_pool is not None:
        close_pool()
