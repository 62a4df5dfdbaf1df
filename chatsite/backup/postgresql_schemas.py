"""Restored tables get a schema of their own first, which is exchanged with the live one at once."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from chatsite.backup.databases import PostgreSQL
from chatsite.backup.errors import BackupRefused
from chatsite.backup.tables import MIGRATIONS, tables

STAGING: Final = "chatsite_restoring"


def staging_url(url: str) -> str:
    """Return ``url`` with the staging schema as its search path."""
    separator = "&" if urlsplit(url).query else "?"
    return f"{url}{separator}currentSchema={STAGING}"


def create_staging(settings: dict[str, Any]) -> None:
    """Create an empty staging schema. Raises `BackupRefused` without the permission."""
    drop_staging(settings)
    with closing(PostgreSQL(settings)) as database:
        try:
            database.execute(f"CREATE SCHEMA {STAGING}")
        except psycopg.errors.InsufficientPrivilege as error:
            raise BackupRefused(
                f"The restore needs a schema of its own. Allow it: GRANT CREATE ON DATABASE "
                f'"{settings["NAME"]}" TO "{settings["USER"]}"'
            ) from error


def drop_staging(settings: dict[str, Any]) -> None:
    with closing(PostgreSQL(settings)) as database:
        database.execute(f"DROP SCHEMA IF EXISTS {STAGING} CASCADE")


def exists(settings: dict[str, Any], schema: str) -> bool:
    with closing(PostgreSQL(settings)) as database:
        return bool(database.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", [schema]))


def exchange(settings: dict[str, Any], aside: str) -> None:
    """Move the live tables to the schema ``aside`` and the staged ones to their place, at once.

    Does nothing if that was done before. Other tables of the live schema stay.
    """
    with closing(PostgreSQL(settings)) as database, database.transaction():
        if not database.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", [STAGING]):
            return
        ((live,),) = database.execute("SELECT current_schema()")
        ours = {MIGRATIONS, *(table.name for table in tables()), *_tables(database, STAGING)}
        old = [name for name in _tables(database, live) if name in ours]
        functions = _functions(database, STAGING)
        if old:
            database.execute(f'CREATE SCHEMA "{aside}"')
            names = {name for name, _arguments in functions}
            kept = [one for one in _functions(database, live) if one[0] in names]
            _move(database, live, aside, old, kept)
        _move(database, STAGING, live, _tables(database, STAGING), functions)
        database.execute(f"DROP SCHEMA {STAGING}")


def _move(
    database: PostgreSQL,
    source: str,
    target: str,
    names: Iterable[str],
    functions: Iterable[tuple[str, str]],
) -> None:
    """Move tables with all that belongs to them, and functions."""
    for name in names:
        database.execute(f'ALTER TABLE "{source}"."{name}" SET SCHEMA "{target}"')
    for name, arguments in functions:
        database.execute(f'ALTER FUNCTION "{source}"."{name}"({arguments}) SET SCHEMA "{target}"')


def _tables(database: PostgreSQL, schema: str) -> list[str]:
    found = database.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = ? ORDER BY tablename", [schema]
    )
    return [name for (name,) in found]


def _functions(database: PostgreSQL, schema: str) -> list[tuple[str, str]]:
    found = database.execute(
        "SELECT proname, pg_get_function_identity_arguments(pg_proc.oid) FROM pg_proc"
        " JOIN pg_namespace ON pg_namespace.oid = pronamespace WHERE nspname = ?"
        # Those of extensions belong to them.
        " AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')",
        [schema],
    )
    return [(name, arguments) for name, arguments in found]
