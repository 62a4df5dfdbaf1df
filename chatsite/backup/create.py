"""Writes a backup while the site runs."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from chatsite.audit import drain, spool
from chatsite.audit.record import record
from chatsite.backup import archive, columns
from chatsite.backup.archive import Manifest, Model, StoredTable, Writer
from chatsite.backup.databases import ERRORS, Database, open_database
from chatsite.backup.errors import BackupRefused
from chatsite.backup.tables import tables
from chatsite.env import Environment, shown_value, variable_of
from chatsite.sizes import file_size
from chatsite.version import product_version
from models_admin.models import ModelVersion

log = logging.getLogger(__name__)

# Called with what is written now.
Progress = Callable[[str], None]

NAME: Final = re.compile(r"chatsite-backup-(\d{8}T\d{6}Z)\.zip")
_TIME: Final = "%Y%m%dT%H%M%SZ"
_DRAIN_SECONDS: Final = 60.0
_BLOCK: Final = 4 << 20


def name_now() -> str:
    return f"chatsite-backup-{datetime.now(UTC).strftime(_TIME)}.zip"


def existing(folder: Path) -> list[tuple[datetime, Path]]:
    """Return the backups in ``folder`` whose names have their times, oldest first.

    Raises `OSError`.
    """
    return sorted(
        (datetime.strptime(match[1], _TIME).replace(tzinfo=UTC), path)
        for path in folder.iterdir()
        if (match := NAME.fullmatch(path.name))
    )


def rotate(folder: Path, keep: int) -> list[Path]:
    """Delete all but the newest ``keep`` backups in ``folder``; return the deleted ones."""
    old = [path for _time, path in existing(folder)][:-keep]
    for path in old:
        path.unlink(missing_ok=True)
    return old


def create(
    path: Path,
    *,
    with_models: bool = False,
    replace: bool = False,
    progress: Progress = lambda _what: None,
) -> Manifest:
    """Write a backup to ``path``, mode 0600, and read it again; return its manifest.

    Nothing exists under that name until the backup is complete and verified. Raises
    `BackupRefused`, and `BadArchive` if it is read differently than it was written.
    """
    if path.exists() and not replace:
        raise BackupRefused(
            f"{path} exists. Choose another name or a folder, or replace it with --force."
        )
    if not path.parent.is_dir():
        raise BackupRefused(f"The folder {path.parent} does not exist. Create it first.")
    require_current_schema()
    with archive.written(path, replace=replace) as file:
        writer = Writer(file)
        try:
            manifest = _write(writer, with_models, progress)
        except BaseException:
            writer.abandon()
            raise
        file.flush()
        progress("Verifying")
        # By its descriptor: the file has no final name yet.
        with archive.Reader(Path(f"/dev/fd/{file.fileno()}"), shown=path) as reader:
            reader.verify()
    return manifest


def create_recorded(path: Path, *, via: str, **options: Any) -> Manifest:
    """Call `create`, and record an audit event of its success."""
    manifest = create(path, **options)
    record(
        "backup.created",
        via=via,
        target=("backup", "", path.name),
        rows=manifest.rows,
        size=path.stat().st_size,
        models=sum(model.included for model in manifest.models),
    )
    return manifest


def require_current_schema() -> None:
    """Raise `BackupRefused` unless the database has exactly the migrations of this version."""
    try:
        executor = MigrationExecutor(connection)
        applied = set(MigrationRecorder(connection).applied_migrations())
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise BackupRefused(f"The database can't be used: {error}") from error
    finally:
        connection.close()
    known = set(executor.loader.disk_migrations or ())
    if missing:
        raise BackupRefused(
            f"The database lacks {len(missing)} migrations of this version. Run: manage.py migrate"
        )
    if newer := sorted(applied - known):
        app, name = newer[-1]
        raise BackupRefused(
            f"The database has migrations that this version does not know ({app} {name}): use the "
            "version that made them."
        )


def _write(writer: Writer, with_models: bool, progress: Progress) -> Manifest:
    created_at = datetime.now(UTC)
    writer.add(archive.SECRET_KEY, [str(settings.SECRET_KEY).encode()])
    writer.add(archive.SETTINGS, [_settings()])
    with ExitStack() as stack:
        database = open_database(settings.DATABASES["default"])
        stack.callback(database.close)
        _begin(writer, database, stack)
        try:
            stored = [*_tables(writer, database, progress)]
            migrations = database.migrations()
        except ERRORS as error:
            raise BackupRefused(f"The database can't be read: {str(error).strip()}") from error
    models = [_model(writer, version, with_models, progress) for version in _versions()]
    manifest = archive.new_manifest(
        version=product_version(),
        created_at=created_at.isoformat(timespec="seconds"),
        host=socket.gethostname(),
        vendor=database.vendor,
        migrations=migrations,
        tables=stored,
        models=models,
        members=writer.members,
    )
    writer.finish(manifest)
    return manifest


def _begin(writer: Writer, database: Database, stack: ExitStack) -> None:
    """Copy the audit spool and take the snapshot, which belong together.

    Nothing moves events from the spool into the database between the two: an event is in one of
    them, and the offsets in the database are those of the copied files.
    """
    folder = spool.folder(Path(settings.DATA_DIR))
    if not folder.is_dir():
        stack.enter_context(database.snapshot())
        return
    drain.drain(wait=_DRAIN_SECONDS)
    with drain.election(folder, _DRAIN_SECONDS) as elected:
        if not elected:
            raise BackupRefused("Audit events are still being stored. Try again in a minute.")
        for path in sorted(folder.glob(f"*{spool.SUFFIX}")):
            writer.add(f"audit/{path.name}", [path.read_bytes()])
        stack.enter_context(database.snapshot())


def _tables(writer: Writer, database: Database, progress: Progress) -> Iterator[StoredTable]:
    for table in tables():
        progress(table.name)
        lines = map(columns.line, database.rows(table))
        rows = writer.add(archive.member_of(table), lines, rows=True).rows or 0
        last = database.last_number(table) if table.serial else 0
        yield StoredTable(table, rows, last)


def _versions() -> list[ModelVersion]:
    found = ModelVersion.objects.prefetch_related("names", "left_by").order_by("digest")
    return list(found)


def _model(writer: Writer, version: ModelVersion, included: bool, progress: Progress) -> Model:
    names = list(version.names.all())
    origin = next((name.origin for name in names if name.origin), "")
    if included:
        progress(f"Model {version}, {file_size(version.size)}")
        included = _add_model(writer, version)
    return Model(
        digest=version.digest,
        size=version.size,
        names=sorted(name.name for name in names),
        origin=origin,
        included=included,
    )


def _add_model(writer: Writer, version: ModelVersion) -> bool:
    """Add the file of a model; return False if it is missing here."""
    try:
        file = version.path.open("rb")
    except FileNotFoundError:
        log.warning("Model file is missing and not in the backup", extra={"digest": version.digest})
        return False
    with file:
        blocks = iter(lambda: file.read(_BLOCK), b"")
        added = writer.add(f"models/sha256-{version.digest}", blocks)
    if added.sha256 != version.digest:
        raise BackupRefused(
            f"The file of model {version} is damaged: its digest differs. Import the model again, "
            "or make the backup without --models."
        )
    return True


def _settings() -> bytes:
    """Return the settings that the environment sets, as JSON; secrets are masked."""
    environment: Environment = settings.ENV
    found = {}
    for name, field in Environment.model_fields.items():
        value = getattr(environment, name)
        if value != field.get_default(call_default_factory=True):
            found[variable_of(name)] = shown_value(name, value)
    return msgspec.json.format(msgspec.json.encode(found))
