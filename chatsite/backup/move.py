"""Moves the data between SQLite and PostgreSQL, table by table, in the order of keys.

The target's own rows say how far a killed move came: each batch is committed at once, and the next
attempt continues behind the highest key. A table of the target marks a move that is not complete.
Finally all rows of both sides are compared. The source is only read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import dj_database_url
import msgspec
from django.conf import settings

from chatsite.audit.record import record
from chatsite.backup.compare import Different, require_equal
from chatsite.backup.create import require_current_schema
from chatsite.backup.databases import ERRORS, Database, open_database
from chatsite.backup.errors import BackupRefused
from chatsite.backup.stopped import stopped
from chatsite.backup.tables import Table, tables
from chatsite.env import shown_value

Progress = Callable[[str], None]

# In the target; its row has the source, and whether the tables are ready to be filled.
_MARK: Final = "chatsite_move"
_SQLITE: Final = "sqlite"


class Moved(msgspec.Struct):
    """``url`` is what DATABASE_URL has to be; empty for the default. ``changed`` as in `load`."""

    url: str
    tables: int
    rows: int
    changed: int
    seconds: float


def move(url: str, *, restart: bool = False, progress: Progress = lambda _what: None) -> Moved:
    """Copy all rows into the empty database ``url``, or continue a killed move into it.

    ``url`` is postgres://…, sqlite:///PATH, or ``sqlite`` for the file in the data folder. With
    ``restart`` the rows of an incomplete move are deleted first. Raises `BackupRefused`,
    `Different`, or `DataDirProblem` if the site runs.
    """
    began = time.monotonic()
    url = _default_url() if url == _SQLITE else url
    target_settings = _parsed(url)
    source_settings = settings.DATABASES["default"]
    _require_different(source_settings, target_settings)
    require_current_schema()
    with (
        stopped(source_settings, target_settings),
        closing(open_database(source_settings)) as source,
        closing(open_database(target_settings)) as target,
    ):
        try:
            with source.snapshot():
                rows, changed = _move(source, target, url, restart, progress)
        except ERRORS as error:
            raise BackupRefused(
                f"A database failed: {str(error).strip()}. Run the command again to continue."
            ) from error
    record(
        "database.moved",
        via="cli",
        moved_from=source.vendor,
        moved_to=target.vendor,
        rows=rows,
    )
    wanted = "" if url == _default_url() else url
    return Moved(wanted, len(tables()), rows, changed, time.monotonic() - began)


def _move(
    source: Database, target: Database, url: str, restart: bool, progress: Progress
) -> tuple[int, int]:
    found = tables()
    _prepare(source, target, url, restart, progress)
    changed = 0
    for table in found:
        progress(f"Copying {table.name}")
        changed += target.load(table, source.rows(table, target.last_key(table)))
        if table.serial:
            target.set_last_number(table, source.last_number(table))
    progress("Checking foreign keys and building indexes")
    target.end_load()
    rows = 0
    for table in found:
        progress(f"Comparing {table.name}")
        rows += _compare(source, target, table)
    target.execute(f"DROP TABLE {_MARK}")
    return rows, changed


def _compare(source: Database, target: Database, table: Table) -> int:
    try:
        with target.snapshot():
            rows = require_equal(table, source.rows(table), target)
    except Different as error:
        raise Different(
            f"{error} The source was changed after a first attempt, or the target by another "
            "program. Begin again with --restart."
        ) from error
    if table.serial and target.last_number(table) != source.last_number(table):
        raise Different(f"The sequence of {table.name} differs. Begin again with --restart.")
    return rows


# Preparation of the target.


def _prepare(
    source: Database, target: Database, url: str, restart: bool, progress: Progress
) -> None:
    """Create the tables of an empty target; require that others hold an incomplete move."""
    names = target.table_names()
    origin = f"{source.vendor} {source.name}"
    if _MARK not in names:
        if ours := sorted(names & {table.name for table in tables()}):
            raise BackupRefused(
                f"The database {target.name} is not empty: it has the table {ours[0]}. Choose an "
                "empty database, or move that one away."
            )
        target.execute(f"CREATE TABLE {_MARK} (source text, ready integer)")
        target.execute(f"INSERT INTO {_MARK} (source, ready) VALUES (?, 0)", [origin])  # noqa: S608
    elif not (rows := target.execute(f"SELECT source FROM {_MARK}")):  # noqa: S608
        target.execute(f"INSERT INTO {_MARK} (source, ready) VALUES (?, 0)", [origin])  # noqa: S608
    elif rows[0][0] != origin and not restart:
        raise BackupRefused(
            f"{target.name} holds an incomplete move from {rows[0][0]}. Continue that one, or "
            "begin again with --restart."
        )
    ((ready,),) = target.execute(f"SELECT ready FROM {_MARK}")  # noqa: S608
    if ready and not restart:
        progress("Continuing")
        target.begin_load()
        return
    progress("Creating tables")
    _migrate(url)
    _empty(target)
    # Rows that migrations wrote are gone: from now on the rows are those of the source.
    target.execute(f"UPDATE {_MARK} SET ready = 1, source = ?", [origin])  # noqa: S608


def _empty(target: Database) -> None:
    missing = {table.name for table in tables()} - target.table_names()
    if missing:
        raise BackupRefused(f"{target.name} lacks the table {min(missing)}.")
    target.begin_load()
    target.clear(tables())


def _migrate(url: str) -> None:
    """Create the tables in a process whose default database is the target."""
    environment = {**os.environ, "DATABASE_URL": url}
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["unknown error"]
        raise BackupRefused(f"The tables can't be created in {_shown(url)}: {lines[-1]}")


# Addresses.


def _default_url() -> str:
    path = Path(settings.DATA_DIR) / "chatsite.sqlite3"
    return f"sqlite:///{quote(str(path))}"


def _parsed(url: str) -> dict[str, Any]:
    try:
        found = dict(dj_database_url.parse(url))
    except (ValueError, KeyError) as error:
        raise BackupRefused(
            f"{_shown(url)} is no address of a database. Write postgres://user:password@host/name "
            "or sqlite:///PATH, or sqlite for the file in the data folder."
        ) from error
    engine = str(found.get("ENGINE"))
    if engine not in {"django.db.backends.postgresql", "django.db.backends.sqlite3"}:
        raise BackupRefused(f"{_shown(url)} is neither PostgreSQL nor SQLite.")
    if engine.endswith("sqlite3") and not Path(str(found["NAME"])).parent.is_dir():
        raise BackupRefused(f"The folder of {found['NAME']} does not exist. Create it first.")
    return found


def _require_different(source: dict[str, Any], target: dict[str, Any]) -> None:
    def place(one: dict[str, Any]) -> tuple[str, ...]:
        if one["ENGINE"] == "django.db.backends.sqlite3":
            return (str(Path(one["NAME"]).resolve()),)
        return tuple(str(one.get(name) or "") for name in ("HOST", "PORT", "NAME"))

    if place(source) == place(target):
        raise BackupRefused("The site uses that database already. Name another one.")


def _shown(url: str) -> str:
    return shown_value("database_url", url)
