"""Both databases behind one interface: canonical rows out of a snapshot, and rows in by batches.

Uses connections of its own, not Django's: a snapshot must not take SQLite's write lock, and rows
must not pass through models, whose code may be newer than the rows.
"""

from __future__ import annotations

import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from chatsite.backup import columns
from chatsite.backup.columns import Row, Value
from chatsite.backup.errors import BackupRefused
from chatsite.backup.tables import MIGRATIONS, Table

# A batch is committed at once and held in memory.
BATCH_ROWS: Final = 2000
_BATCH_BYTES: Final = 1 << 20
# Rows may be megabytes, so few are fetched at a time.
_FETCH_ROWS: Final = 100
# Holds what `begin_load` postponed; dropped by `end_load`.
_POSTPONED: Final = "chatsite_postponed_ddl"
# Parameters of a connection, by their names in Django's settings.
_PARAMETERS: Final = {
    "NAME": "dbname",
    "USER": "user",
    "PASSWORD": "password",
    "HOST": "host",
    "PORT": "port",
}
# Django's own entries of `OPTIONS`.
_NOT_OF_DRIVER: Final = {"pool", "isolation_level", "server_side_binding", "assume_role"}
ERRORS: Final = (sqlite3.Error, psycopg.Error)


class Database(ABC):
    vendor: str
    name: str

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        """During the block all reads see one state; others may write meanwhile."""

    @abstractmethod
    def table_names(self) -> set[str]: ...

    @abstractmethod
    def column_names(self, table: str) -> set[str]: ...

    @abstractmethod
    def rows(self, table: Table, after: Value = None) -> Iterator[Row]:
        """Yield the canonical rows with keys above ``after``, in the order of their keys."""

    @abstractmethod
    def last_key(self, table: Table) -> Value:
        """Return the highest key, in canonical form; None for an empty table."""

    @abstractmethod
    def last_number(self, table: Table) -> int:
        """Return the last number that was given to a row of a serial table; 0 before any."""

    @abstractmethod
    def set_last_number(self, table: Table, number: int) -> None: ...

    @abstractmethod
    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert and commit the rows. Raises `BackupRefused` if the database refuses one."""

    @abstractmethod
    def clear(self, tables: Sequence[Table]) -> None: ...

    @abstractmethod
    def begin_load(self) -> None:
        """Postpone the checks of foreign keys and the building of search indexes."""

    @abstractmethod
    def end_load(self) -> None:
        """Do what `begin_load` postponed, and update the planner's statistics.

        Raises `BackupRefused` for a foreign key without its row.
        """

    @abstractmethod
    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute and commit one statement, with ``?`` for values; return its rows."""

    def storable(self, table: Table, row: Row) -> Row:
        """Return the row as this database can store it."""
        return row

    def migrations(self) -> list[tuple[str, str]]:
        """Return app and name of all applied migrations, in order."""
        found = self.execute(f"SELECT app, name FROM {MIGRATIONS} ORDER BY id")  # noqa: S608
        return [(app, name) for app, name in found]

    def load(self, table: Table, rows: Iterable[Row]) -> int:
        """Insert the rows in batches; return how many values had to be changed to be stored."""
        changed, batch, size = 0, [], 0
        for row in rows:
            stored = self.storable(table, row)
            changed += stored != row
            batch.append(stored)
            size += sum(len(value) for value in stored if isinstance(value, (str, list)))
            if len(batch) >= BATCH_ROWS or size >= _BATCH_BYTES:
                self.insert(table, batch)
                batch, size = [], 0
        if batch:
            self.insert(table, batch)
        return changed


def open_database(settings: dict[str, Any]) -> Database:
    """Connect to the database of an entry of `settings.DATABASES`. Raises `BackupRefused`."""
    try:
        if settings["ENGINE"] == "django.db.backends.postgresql":
            return PostgreSQL(settings)
        return SQLite(Path(settings["NAME"]))
    except ERRORS as error:
        raise BackupRefused(
            f"The database {settings['NAME']} can't be opened: {str(error).strip()}"
        ) from error


def _names(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in table.columns)


class SQLite(Database):
    vendor = "sqlite"

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._connection = sqlite3.connect(path, timeout=20, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA foreign_keys=OFF")

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        # The first read takes the snapshot.
        self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def table_names(self) -> set[str]:
        return {name for (name,) in self.execute("SELECT name FROM sqlite_master")}

    def column_names(self, table: str) -> set[str]:
        return {row[1] for row in self.execute(f'PRAGMA table_info("{table}")')}

    def rows(self, table: Table, after: Value = None) -> Iterator[Row]:
        convert = columns.converter(table.kinds, columns.FROM_SQLITE)
        where, values = (f'WHERE "{table.key}" > ?', [after]) if after is not None else ("", [])
        cursor = self._connection.execute(
            f'SELECT {_names(table)} FROM "{table.name}" {where} ORDER BY "{table.key}"',  # noqa: S608
            values,
        )
        while found := cursor.fetchmany(_FETCH_ROWS):
            for row in found:
                yield convert(row)

    def last_key(self, table: Table) -> Value:
        (found,) = self.execute(f'SELECT MAX("{table.key}") FROM "{table.name}"')  # noqa: S608
        return found[0]  # type: ignore[no-any-return]

    def last_number(self, table: Table) -> int:
        if "sqlite_sequence" not in self.table_names():
            return 0
        found = self.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", [table.name])
        return int(found[0][0]) if found else 0

    def set_last_number(self, table: Table, number: int) -> None:
        with self._transaction() as run:
            run("DELETE FROM sqlite_sequence WHERE name = ?", [table.name])
            if number:
                run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table.name, number])

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        convert = columns.converter(table.kinds, columns.TO_SQLITE)
        marks = ", ".join("?" * len(table.columns))
        try:
            with self._transaction():
                self._connection.executemany(
                    f'INSERT INTO "{table.name}" ({_names(table)}) VALUES ({marks})',  # noqa: S608
                    map(convert, rows),
                )
        except sqlite3.Error as error:
            raise _refused(table, rows, error) from error

    def clear(self, tables: Sequence[Table]) -> None:
        with self._transaction() as run:
            for table in tables:
                run(f'DELETE FROM "{table.name}"')  # noqa: S608

    def begin_load(self) -> None:
        pass  # foreign keys are never checked on this connection

    def end_load(self) -> None:
        if wrong := self.execute("PRAGMA foreign_key_check"):
            table, row, other, _number = wrong[0]
            raise BackupRefused(
                f"Row {row} of {table} names a row of {other} that does not exist; "
                f"{len(wrong)} such rows in total."
            )

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection.execute
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


class PostgreSQL(Database):
    vendor = "postgresql"

    def __init__(self, settings: dict[str, Any]) -> None:
        given = {name: settings.get(key) for key, name in _PARAMETERS.items()}
        options = {
            name: value
            for name, value in settings.get("OPTIONS", {}).items()
            if name not in _NOT_OF_DRIVER
        }
        self.name = str(settings["NAME"])
        self._connection = psycopg.connect(
            **{name: value for name, value in given.items() if value},
            **options,
            autocommit=True,
        )

    def close(self) -> None:
        self._connection.close()

    def transaction(self) -> contextlib.AbstractContextManager[Any]:
        """Commit all statements of a block together."""
        return self._connection.transaction()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # The first query takes the snapshot.
            self._connection.execute("SELECT 1")
            yield

    def table_names(self) -> set[str]:
        found = self.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = current_schema()::regnamespace"
        )
        return {name for (name,) in found}

    def column_names(self, table: str) -> set[str]:
        found = self.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(?)"
            " AND attnum > 0 AND NOT attisdropped",
            [f'"{table}"'],
        )
        return {name for (name,) in found}

    def rows(self, table: Table, after: Value = None) -> Iterator[Row]:
        convert = columns.converter(table.kinds, columns.FROM_POSTGRESQL)
        selected = ", ".join(
            columns.POSTGRESQL_EXPRESSIONS.get(kind, "{}").format(f'"{name}"')
            for name, kind in zip(table.columns, table.kinds, strict=True)
        )
        key = _ordered_key(table)
        where, values = (f"WHERE {key} > %s", [after]) if after is not None else ("", [])
        statement = f'SELECT {selected} FROM "{table.name}" {where} ORDER BY {key}'  # noqa: S608
        # A cursor of the server needs a transaction; inside of `snapshot` this is a savepoint.
        with (
            self._connection.transaction(),
            self._connection.cursor(name=f"rows_{table.name}") as cursor,
        ):
            cursor.itersize = _FETCH_ROWS
            cursor.execute(statement.encode(), values)
            for row in cursor:
                yield convert(row)

    def last_key(self, table: Table) -> Value:
        form = columns.POSTGRESQL_EXPRESSIONS.get(table.key_kind, "{}").format(f'"{table.key}"')
        found = self.execute(
            f'SELECT {form} FROM "{table.name}" ORDER BY {_ordered_key(table)} DESC LIMIT 1'  # noqa: S608
        )
        return found[0][0] if found else None

    def last_number(self, table: Table) -> int:
        sequence = self._sequence(table)
        ((last, called),) = self.execute(f"SELECT last_value, is_called FROM {sequence}")  # noqa: S608
        return int(last) if called else 0

    def set_last_number(self, table: Table, number: int) -> None:
        self.execute(
            "SELECT setval(?::regclass, ?, ?)", [self._sequence(table), max(number, 1), number > 0]
        )

    def _sequence(self, table: Table) -> str:
        ((found,),) = self.execute(
            "SELECT pg_get_serial_sequence(?, ?)", [f'"{table.name}"', table.key]
        )
        return str(found)

    def storable(self, table: Table, row: Row) -> Row:
        return columns.converter(table.kinds, columns.STORABLE)(row)

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        convert = columns.converter(table.kinds, columns.TO_POSTGRESQL)
        statement = f'COPY "{table.name}" ({_names(table)}) FROM STDIN'
        try:
            with (
                self._connection.transaction(),
                self._connection.cursor() as cursor,
                cursor.copy(statement.encode()) as copy,
            ):
                for row in rows:
                    copy.write_row(convert(row))
        except psycopg.Error as error:
            raise _refused(table, rows, error) from error

    def clear(self, tables: Sequence[Table]) -> None:
        self.execute(f"TRUNCATE {', '.join(table.name for table in tables)}")

    def begin_load(self) -> None:
        with self._connection.transaction():
            self.execute(
                f"CREATE TABLE IF NOT EXISTS {_POSTPONED} (position serial, statement text)"
            )
            keys = self.execute(
                "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid)"
                " FROM pg_constraint WHERE contype = 'f'"
                " AND connamespace = current_schema()::regnamespace"
            )
            indexes = self.execute(
                "SELECT index.oid::regclass::text, pg_get_indexdef(index.oid) FROM pg_class index"
                " JOIN pg_am ON pg_am.oid = index.relam WHERE amname = 'gin'"
                " AND relnamespace = current_schema()::regnamespace"
            )
            for name, definition in indexes:
                self._postpone(f"DROP INDEX {name}", definition)
            for table, name, definition in keys:
                self._postpone(
                    f"ALTER TABLE {table} DROP CONSTRAINT {name}",
                    f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}",
                )

    def _postpone(self, drop: str, create: str) -> None:
        self.execute(drop)
        self.execute(f"INSERT INTO {_POSTPONED} (statement) VALUES (?)", [create])  # noqa: S608

    def end_load(self) -> None:
        try:
            with self._connection.transaction():
                for (statement,) in self.execute(
                    f"SELECT statement FROM {_POSTPONED} ORDER BY position"  # noqa: S608
                ):
                    self.execute(statement)
                self.execute(f"DROP TABLE {_POSTPONED}")
        except psycopg.errors.ForeignKeyViolation as error:
            raise BackupRefused(f"A row names another row that does not exist: {error}") from error
        self.execute("ANALYZE")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        # Without values psycopg leaves `%` alone.
        query = statement.replace("?", "%s") if values else statement
        cursor = self._connection.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def _ordered_key(table: Table) -> str:
    """Return the key as it is ordered: text by code points, whatever the database's locale."""
    return f'"{table.key}" COLLATE "C"' if table.key_kind == "text" else f'"{table.key}"'


def _refused(table: Table, rows: Sequence[Row], error: Exception) -> BackupRefused:
    place = table.columns.index(table.key)
    first, last = rows[0][place], rows[-1][place]
    return BackupRefused(
        f"A row of {table.name} between {first} and {last} is refused: {str(error).strip()}"
    )
