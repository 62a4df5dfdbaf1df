"""Work that needs the site to be stopped, and the state of an interrupted restore."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
from django.conf import settings
from django.db import connection

from chatsite.backup.databases import PostgreSQL
from chatsite.backup.errors import BackupRefused
from chatsite.env import Environment
from chatsite.hosts import status
from chatsite.supervisor import data_dir
from chatsite.supervisor.leftovers import Register

_ATTEMPTS: Final = 10
_PAUSE_SECONDS: Final = 0.2


@contextmanager
def stopped(*databases: dict[str, Any]) -> Iterator[None]:
    """Keep the site from starting during the block.

    ``databases`` are entries like those of `settings.DATABASES` that nothing may use. Raises
    `BackupRefused`, or `DataDirProblem` if `manage.py up` runs.
    """
    environment: Environment = settings.ENV
    data_dir.prepare(environment.data_dir)
    with data_dir.locked(environment.data_dir):
        if left := Register(environment.data_dir / "run" / "children.json").alive():
            numbers = ", ".join(str(process.pid) for process in left)
            raise BackupRefused(f"Processes of the site are still running: {numbers}. Stop them.")
        if environment.redis_url and (hosts := asyncio.run(status.ask())):
            names = ", ".join(sorted({host.hostname for host in hosts}))
            raise BackupRefused(f"Inference hosts are running: {names}. Stop the site everywhere.")
        connection.close()
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()
        for database in databases:
            _require_unused(database)
        yield


def _require_unused(database: dict[str, Any]) -> None:
    # Connections that were just closed are listed for a moment.
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE_SECONDS if attempt else 0)
        users = _users(database)
        if not users:
            return
    raise BackupRefused(
        f"The database {database['NAME']} is in use by {', '.join(users)}. Stop all processes "
        "of the site, on every machine, and close other programs that use the database."
    )


def _users(database: dict[str, Any]) -> list[str]:
    if database["ENGINE"] == "django.db.backends.postgresql":
        return _sessions(database)
    return _openers(Path(database["NAME"]))


def _sessions(database: dict[str, Any]) -> list[str]:
    opened = PostgreSQL(database)
    try:
        found = opened.execute(
            "SELECT DISTINCT COALESCE(NULLIF(application_name, ''), usename::text) || ' on ' ||"
            " COALESCE(client_addr::text, 'this machine') FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return sorted(name for (name,) in found)
    finally:
        opened.close()


def _openers(path: Path) -> list[str]:
    """Return the processes that have the file open, as far as this user may see them."""
    found = []
    for process in psutil.process_iter(["pid", "name"]):
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error):
            if any(one.path == str(path) for one in process.open_files()):
                found.append(f"{process.info['name']} (process {process.pid})")
    return found
