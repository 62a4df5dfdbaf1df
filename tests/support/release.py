"""An installation written by an earlier release, from `tests/fixtures/<commit>/`."""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

_FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
_DATABASE = "restored_release"


@dataclass(frozen=True)
class Release:
    """A restored copy.

    ``env`` has the settings that name its database; ``facts`` are known values: IDs, texts of API
    keys, the key of a session.
    """

    data_dir: Path
    env: dict[str, str]
    facts: dict[str, Any]


@contextmanager
def restored(commit: str, data_dir: Path) -> Iterator[Release]:
    """Restore the installation into the new directory ``data_dir``.

    Its database is SQLite there, or a new one on the PostgreSQL server of this test run
    (CHATSITE_TEST_DATABASE_URL).
    """
    server = os.environ.get("CHATSITE_TEST_DATABASE_URL")
    source = _FIXTURES / commit / ("postgresql" if server else "sqlite")
    data_dir.mkdir(mode=0o700)
    with tarfile.open(source / "data.tar.xz") as archive:
        archive.extractall(data_dir, filter="data")
    facts = json.loads((source / "facts.json").read_text())
    script = (source / "database.sql").read_text()
    if not server:
        with closing(sqlite3.connect(data_dir / "chatsite.sqlite3")) as database:
            database.executescript(f"BEGIN;\n{script}\nCOMMIT;")
        yield Release(data_dir, {}, facts)
        return
    url = urlunsplit(urlsplit(server)._replace(path=f"/{_DATABASE}"))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_DATABASE}")
        try:
            with psycopg.connect(url) as database:
                database.execute(script)
            yield Release(data_dir, {"DATABASE_URL": url}, facts)
        finally:
            connection.execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")
