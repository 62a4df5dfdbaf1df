"""Restores a backup: loads everything beside the live data, then exchanges the two.

Nothing of the live data is changed before the new data is complete and equal to the archive. The
exchange is a list of renames in `data_dir.interrupted_restore`; a killed one is completed by
`resume`, and `manage.py up` refuses to start before. What was there before is moved aside, never
deleted. On PostgreSQL the new tables are loaded into a schema of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from redis.exceptions import RedisError

from chatsite.backup import archive, databases, postgresql_schemas, sqlite_files
from chatsite.backup.archive import Manifest, Model, Reader
from chatsite.backup.errors import BackupRefused, named
from chatsite.backup.load import Loaded
from chatsite.backup.stopped import stopped
from chatsite.env import Environment
from chatsite.errors import ChatsiteError
from chatsite.redis_client import connect_blocking
from chatsite.redis_keys import ALL_KEYS
from chatsite.sizes import file_size
from chatsite.supervisor import data_dir
from chatsite.version import product_version
from models_admin.jobs import enqueue
from models_admin.models import ModelVersion

Progress = Callable[[str], None]

_STAGING: Final = "restoring"
# A database needs more than its rows: indexes, and a journal while it is filled.
_DATABASE_FACTOR: Final = 3
_RESERVE: Final = 64 << 20
_SCAN: Final = 1000


class Exchange(msgspec.Struct):
    """What is still to be done; ``aside`` are (from, to), ``install`` are (staged, live).

    ``schema`` is the name under which PostgreSQL's previous tables are kept; empty on SQLite.
    """

    aside: list[tuple[str, str]]
    install: list[tuple[str, str]]
    folder: str
    schema: str = ""


class Restored(msgspec.Struct):
    """``aside`` says where the previous data is, if there was any; ``missing`` lack their file."""

    manifest: Manifest
    loaded: Loaded
    aside: str
    missing: list[Model]
    stale_redis: bool


def restore(
    path: Path, *, force: bool = False, progress: Progress = lambda _what: None
) -> Restored:
    """Restore ``path`` into the data folder and the database of the settings.

    ``force`` replaces data of users, which is moved aside. Raises `BackupRefused`, `BadArchive` and
    `DataDirProblem`; then the live data is as before.
    """
    environment: Environment = settings.ENV
    target = settings.DATABASES["default"]
    with stopped(target):
        data_dir.require_restored(environment.data_dir)
        _require_replaceable(target, force)
        with Reader(path) as reader:
            _require_known(reader)
            _require_key(reader)
            _require_space(reader)
            progress("Verifying the backup")
            reader.verify()
            staging = environment.data_dir / _STAGING
            with named(staging, wanted="Can't write"):
                try:
                    _stage(reader, staging)
                    progress(f"Loading {reader.manifest.rows} rows")
                    loaded = _load(path.absolute(), staging, target)
                    exchange = planned(staging, target)
                except BaseException:
                    _discard(staging, target)
                    raise
                progress("Exchanging")
                begin(exchange)
                try:
                    complete(exchange, target)
                except databases.ERRORS as error:
                    # PostgreSQL comes first: nothing else was exchanged.
                    data_dir.interrupted_restore(environment.data_dir).unlink()
                    _discard(staging, target)
                    raise BackupRefused(
                        f"The tables can't be exchanged: {str(error).strip()}"
                    ) from error
        stale = bool(environment.redis_url) and not _forget_redis()
        return Restored(
            reader.manifest,
            loaded,
            _aside(exchange),
            [model for model in reader.manifest.models if not _has_file(model)],
            stale,
        )


def resume() -> str:
    """Complete an interrupted restore; return where the previous data is.

    Raises `BackupRefused` if there is none.
    """
    environment: Environment = settings.ENV
    target = settings.DATABASES["default"]
    with stopped(target):
        marker = data_dir.interrupted_restore(environment.data_dir)
        if not marker.exists():
            raise BackupRefused(f"No restore of {environment.data_dir} was interrupted.")
        exchange = msgspec.json.decode(marker.read_bytes(), type=Exchange)
        complete(exchange, target)
        if environment.redis_url:
            _forget_redis()
        return _aside(exchange)


def pull(models: list[Model]) -> list[str]:
    """Create jobs that download models again; return a line for each.

    They run when the site is started.
    """
    lines = []
    for model in models:
        for name in model.names if model.origin else ():
            try:
                enqueue.download(model.origin, name)
            except ChatsiteError as error:
                lines.append(f"{name}: {error}")
            else:
                lines.append(f"{name}: will be downloaded when the site runs")
    return lines


# Checks before anything is written.


def _require_replaceable(target: dict[str, Any], force: bool) -> None:
    """Raise `BackupRefused` if there are users whose data would be replaced without ``force``."""
    if force:
        return
    if target["ENGINE"] != "django.db.backends.postgresql" and not Path(target["NAME"]).exists():
        return
    database = databases.open_database(target)
    try:
        if "accounts_user" not in database.table_names():
            return
        ((users,),) = database.execute("SELECT COUNT(*) FROM accounts_user")
    finally:
        database.close()
    if users:
        raise BackupRefused(
            f"The database {target['NAME']} has {users} users. Restore into an empty one, or move "
            "its data aside with --force."
        )


def _require_known(reader: Reader) -> None:
    """Raise `BackupRefused` for a backup of a newer version."""
    manifest = reader.manifest
    known = set(MigrationLoader(None).disk_migrations or ())
    unknown = [f"{app} {name}" for app, name in manifest.migrations if (app, name) not in known]
    if unknown or _version(manifest.version) > _version(product_version()):
        what = f" (migration {unknown[0]} is unknown here)" if unknown else ""
        raise BackupRefused(
            f"{reader.path} was made by version {manifest.version}{what}; this is "
            f"{product_version()}. Install that version, or a newer one."
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split("."))


def _require_key(reader: Reader) -> None:
    given = settings.ENV.secret_key
    if given and given.encode() != reader.content(archive.SECRET_KEY):
        raise BackupRefused(
            "CHATSITE_SECRET_KEY differs from the key of the backup. Unset it: the key is restored "
            "into the data folder."
        )


def _require_space(reader: Reader) -> None:
    environment: Environment = settings.ENV
    members = {member.name: member.size for member in reader.manifest.members}
    needed = _RESERVE + sum(
        members[f"models/sha256-{model.digest}"]
        for model in reader.manifest.models
        if model.included and not _has_file(model)
    )
    if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
        rows = sum(size for name, size in members.items() if name.startswith("database/"))
        needed += rows * _DATABASE_FACTOR
    free = shutil.disk_usage(environment.data_dir).free
    if needed > free:
        raise BackupRefused(
            f"The restore may need {file_size(needed)} in {environment.data_dir}; "
            f"{file_size(free)} are free. Free some space first."
        )


def _has_file(model: Model) -> bool:
    try:
        return ModelVersion(digest=model.digest).path.stat().st_size == model.size
    except FileNotFoundError:
        return False


# Staging.


def _stage(reader: Reader, staging: Path) -> None:
    """Write the files of the archive into an empty folder."""
    shutil.rmtree(staging, ignore_errors=True)
    for folder in (staging, staging / "run" / "audit", staging / "models"):
        folder.mkdir(mode=0o700, parents=True)
    _extract(reader, archive.SECRET_KEY, staging / "secret_key")
    for name in reader.names("audit"):
        _extract(reader, name, staging / "run" / name)
    for model in reader.manifest.models:
        name = f"models/sha256-{model.digest}"
        if model.included and not _has_file(model):
            _extract(reader, name, staging / name)


def _extract(reader: Reader, name: str, target: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
        for block in reader.blocks(name):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _load(path: Path, staging: Path, target: dict[str, Any]) -> Loaded:
    """Load the rows in a process with the restored key. Raises `BackupRefused`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "CHATSITE_DATABASE_URL", "CHATSITE_SECRET_KEY"}
    }
    environment["CHATSITE_DATA_DIR"] = str(staging)
    if target["ENGINE"] == "django.db.backends.postgresql":
        postgresql_schemas.create_staging(target)
        environment["DATABASE_URL"] = postgresql_schemas.staging_url(settings.ENV.database_url)
    else:
        staged = sqlite_files.staged(Path(target["NAME"]))
        sqlite_files.remove(staged)
        environment["DATABASE_URL"] = f"sqlite:///{quote(str(staged))}"
    done = subprocess.run(
        [sys.executable, "-m", "chatsite.backup", str(path)],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise BackupRefused(lines[-1] if lines else "The rows could not be loaded.")
    if target["ENGINE"] != "django.db.backends.postgresql":
        sqlite_files.settle(staged)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Loaded)


def _discard(staging: Path, target: dict[str, Any]) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    if target["ENGINE"] == "django.db.backends.postgresql":
        postgresql_schemas.drop_staging(target)
    else:
        sqlite_files.remove(sqlite_files.staged(Path(target["NAME"])))


# The exchange.


def planned(staging: Path, target: dict[str, Any]) -> Exchange:
    """Return what is to be moved, without files that do not exist."""
    root = staging.parent
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = root / f"before-restore-{moment}"
    aside = [
        (root / name, folder / name) for name in ("secret_key", "redis", "run/audit", "exports")
    ]
    install = [(staging / name, root / name) for name in ("secret_key", "run/audit")]
    models = (staging / "models").iterdir()
    install += [(model, root / "models" / model.name) for model in models]
    postgresql = target["ENGINE"] == "django.db.backends.postgresql"
    if not postgresql:
        live = Path(target["NAME"])
        if not live.exists():
            # Without a database the key is of no use; this very process may have made it.
            aside = aside[1:]
        staged = sqlite_files.staged(live)
        # On the same file system as the database, wherever that is.
        kept = folder if live.parent == root else live.parent / folder.name
        aside += [(one, kept / one.name) for one in sqlite_files.files(live)]
        install.append((staged, live))
    return Exchange(
        [(str(source), str(to)) for source, to in aside if source.exists()],
        [(str(source), str(to)) for source, to in install],
        str(folder),
        f"before_restore_{moment.lower()}" if postgresql else "",
    )


def begin(exchange: Exchange) -> None:
    """Write down what is to be done; from here on the restore is completed, not undone."""
    marker = data_dir.interrupted_restore(settings.ENV.data_dir)
    fresh = marker.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(exchange))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(marker)


def complete(exchange: Exchange, target: dict[str, Any]) -> None:
    """Do what is still to be done; each step may have been done before.

    A live file is the old one exactly as long as its staged successor still exists.
    """
    if exchange.schema:
        postgresql_schemas.exchange(target, exchange.schema)
    staged = {to: source for source, to in exchange.install}
    for source, to in exchange.aside:
        successor = staged.get(source)
        replaced = successor is not None and not Path(successor).exists()
        if Path(source).exists() and not Path(to).exists() and not replaced:
            Path(to).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            Path(source).rename(to)
    for source, to in exchange.install:
        if Path(source).exists():
            Path(to).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            Path(source).rename(to)
    shutil.rmtree(Path(exchange.folder).parent / _STAGING, ignore_errors=True)
    os.sync()
    data_dir.interrupted_restore(settings.ENV.data_dir).unlink(missing_ok=True)


def _aside(exchange: Exchange) -> str:
    places = sorted({str(Path(to).parent) for _source, to in exchange.aside})
    kept = [exchange.folder] if any(p.startswith(exchange.folder) for p in places) else []
    kept += [place for place in places if not place.startswith(exchange.folder)]
    if exchange.schema and postgresql_schemas.exists(
        settings.DATABASES["default"], exchange.schema
    ):
        kept.append(f"schema {exchange.schema}")
    return ", ".join(kept)


def _forget_redis() -> bool:
    """Delete the site's keys, which belong to another state of the database; return whether."""
    try:
        with connect_blocking() as redis:
            for key in redis.scan_iter(match=ALL_KEYS, count=_SCAN):
                redis.unlink(key)
    except (RedisError, OSError):
        return False
    return True
