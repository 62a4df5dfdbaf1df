"""Loads the rows of a backup into an empty database; `restore` runs it as a process of its own.

    python -m chatsite.backup ARCHIVE

The environment names the new data folder and the new database, so that code of migrations and the
audit log use those and the restored secret key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from chatsite.audit import chain
from chatsite.audit.record import record
from chatsite.backup.archive import Reader, member_of
from chatsite.backup.columns import Row
from chatsite.backup.compare import require_equal
from chatsite.backup.databases import Database, open_database
from chatsite.backup.errors import BadArchive
from chatsite.backup.tables import Table, tables
from chatsite.conversations.models import Generation, GenerationState
from chatsite.policy import quotas
from chatsite.retention.models import Export, WorkState

Node = tuple[str, str]


class Loaded(msgspec.Struct):
    """What was restored.

    ``changed`` values hold characters that PostgreSQL can't store. ``interrupted`` answers were
    open when the backup was made. ``audit_problem`` is empty if the audit chain is intact.
    """

    rows: int
    changed: int
    migrated: int
    interrupted: int
    audit_events: int
    audit_problem: str


def load(path: Path) -> Loaded:
    """Load a verified archive. Raises `BackupRefused`."""
    with Reader(path) as reader:
        applied = reader.manifest.migrations
        executor = MigrationExecutor(connection)
        _create_schema(executor, applied)
        _check_tables(executor, applied, reader)
        connection.close()
        database = open_database(settings.DATABASES["default"])
        try:
            changed = _fill(database, reader)
        finally:
            database.close()
        rows = reader.manifest.rows
    plan = executor.loader.graph.leaf_nodes()
    migrated = len(MigrationExecutor(connection).migration_plan(plan))
    # Also creates permissions and content types that are new in this version.
    call_command("migrate", interactive=False, verbosity=0)
    interrupted = _interrupt()
    events, problem = _verify_audit()
    record(
        "backup.restored",
        via="cli",
        created_at=reader.manifest.created_at,
        version=reader.manifest.version,
        rows=rows,
        interrupted=interrupted,
    )
    return Loaded(rows, changed, migrated, interrupted, events, problem)


def _create_schema(executor: MigrationExecutor, applied: list[Node]) -> None:
    """Apply the migrations that the backup's database had."""
    wanted = set(applied)
    full = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    plan = [(one, back) for one, back in full if (one.app_label, one.name) in wanted]
    executor.migrate(None, plan=plan)


def _check_tables(executor: MigrationExecutor, applied: list[Node], reader: Reader) -> None:
    """Raise `BadArchive` unless the archive has the tables and columns of its own migrations."""
    state = executor.loader.project_state(leaves(executor, applied))
    expected = {table.name: table for table in tables(state.apps)}
    found = {stored.table.name: stored.table for stored in reader.manifest.tables}
    if expected.keys() != found.keys():
        raise BadArchive(
            f"{reader.path} does not have the tables of its version: "
            f"{', '.join(sorted(expected.keys() ^ found.keys()))}."
        )
    for name, table in expected.items():
        if _shape(table) != _shape(found[name]):
            raise BadArchive(
                f"The columns of {name} in {reader.path} are not those of its version."
            )


def leaves(executor: MigrationExecutor, applied: list[Node]) -> list[Node]:
    """Return the migrations that no other applied one of the same app follows."""
    graph, wanted = executor.loader.graph, set(applied)
    return [
        node
        for node in applied
        if not any(
            child.key in wanted and child.key[0] == node[0]
            for child in graph.node_map[node].children
        )
    ]


def _shape(table: Table) -> tuple[Any, ...]:
    return (dict(zip(table.columns, table.kinds, strict=True)), table.key, table.serial)


def _fill(database: Database, reader: Reader) -> int:
    """Load all tables and compare them with the archive; return how many values were changed."""
    stored_tables = reader.manifest.tables
    # Migrations may have written rows.
    database.clear([stored.table for stored in stored_tables])
    database.begin_load()
    changed = 0
    for stored in stored_tables:
        lines = reader.lines(member_of(stored.table))
        changed += database.load(stored.table, _rows(lines))
        if stored.table.serial:
            database.set_last_number(stored.table, stored.last_number)
    database.end_load()
    for stored in stored_tables:
        lines = reader.lines(member_of(stored.table))
        with database.snapshot():
            require_equal(stored.table, _rows(lines), database)
    return changed


def _rows(lines: Iterable[bytes]) -> Iterator[Row]:
    return map(msgspec.json.decode, lines)


def _interrupt() -> int:
    """End the answers that were open; return how many. Their clients and queue are gone."""
    interrupted = 0
    with transaction.atomic():
        for generation in list(Generation.objects.open()):
            quotas.settle(generation.pk, 0)
            Generation.advance(
                generation.pk,
                to=GenerationState.INTERRUPTED,
                attempt=generation.attempt,
                finished_at=timezone.now(),
            )
            interrupted += 1
        # The files of finished exports are not in a backup.
        Export.objects.filter(state=WorkState.DONE).delete()
    return interrupted


def _verify_audit() -> tuple[int, str]:
    report = chain.verify()
    return report.events, report.problem.text if report.problem else ""
