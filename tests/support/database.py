"""The test run's database as it was after the migrations, restored after each committing test.

Django's own way is `flush`: it empties every table and creates all permissions and content types
again, which takes longer than most tests.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from django.db import connection, transaction

# More is not deleted row by row: dead rows would slow down the tests that follow.
_TRUNCATE_BYTES = 256 << 10
_LOCKED_SECONDS = 20
_RETRY_SECONDS = 0.02


class _Sqlite:
    """Keeps a copy of the whole database, which also has what triggers and FTS5 write."""

    def __init__(self) -> None:
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)
        self._original().backup(self._copy)

    def restore(self) -> None:
        waits = 0

        def bounded(_status: int, _remaining: int, _total: int) -> None:
            nonlocal waits
            waits += 1
            if waits * _RETRY_SECONDS > _LOCKED_SECONDS:
                raise TimeoutError("a connection of this test still uses the database")

        self._copy.backup(self._original(), progress=bounded, sleep=_RETRY_SECONDS)

    def close(self) -> None:
        self._copy.close()

    def _original(self) -> sqlite3.Connection:
        connection.ensure_connection()
        original: sqlite3.Connection = connection.connection
        return original


class _Postgres:
    """Keeps copies of the tables that are not empty, in a schema of its own."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            self._tables = sorted(connection.introspection.table_names(cursor))
            kept = self._filled(cursor, self._tables)
            cursor.execute("CREATE SCHEMA pristine")
            for table in kept:
                cursor.execute(f'CREATE TABLE pristine."{table}" AS TABLE public."{table}"')
        self._digests = dict.fromkeys(kept, "")
        with connection.cursor() as cursor:
            self._digests = self._digested(cursor)

    def restore(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            changed = [t for t, text in self._digested(cursor).items() if text != self._digests[t]]
            others = [table for table in self._tables if table not in self._digests]
            filled = [*self._filled(cursor, others), *changed]
            if not filled:
                return
            # Neither foreign keys nor the triggers of the audit log are checked.
            cursor.execute("SET LOCAL session_replication_role = replica")
            for table in filled:
                cursor.execute(f"SELECT pg_relation_size('public.\"{table}\"')")
                [size] = cursor.fetchone()
                if size <= _TRUNCATE_BYTES:
                    cursor.execute(f'DELETE FROM public."{table}"')  # noqa: S608
                else:
                    cursor.execute(f'TRUNCATE public."{table}" CASCADE')
            for table in changed:
                cursor.execute(f'INSERT INTO public."{table}" TABLE pristine."{table}"')

    def close(self) -> None:
        pass

    def _filled(self, cursor: Any, tables: list[str]) -> list[str]:
        rows = " UNION ALL ".join(
            f"SELECT '{table}' WHERE EXISTS (SELECT FROM public.\"{table}\")"  # noqa: S608
            for table in tables
        )
        cursor.execute(rows)
        return [str(table) for (table,) in cursor.fetchall()]

    def _digested(self, cursor: Any) -> dict[str, str]:
        rows = " UNION ALL ".join(
            f"SELECT '{table}', md5(string_agg(t::text, '|' ORDER BY t::text))"  # noqa: S608
            f' FROM public."{table}" t'
            for table in self._digests
        )
        cursor.execute(rows)
        return dict(cursor.fetchall())


def pristine() -> _Sqlite | _Postgres:
    """Remember the database as it is now."""
    return _Postgres() if connection.vendor == "postgresql" else _Sqlite()
