"""A site is moved to PostgreSQL, backed up and restored; by the commands, on real databases."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatsite.backup.archive import Reader
from chatsite.backup.databases import open_database
from chatsite.backup.tables import tables
from chatsite.supervisor import data_dir
from tests.support.backup_site import KEY_FILE
from tests.support.postgres import NoPostgres, private_postgres
from tests.support.stack import ROOT, Stack, wait_until

# Tables that a drain of the audit spool changes.
_OF_SPOOL = {"audit_event", "audit_eventterms", "audit_chain", "audit_spoolfile"}
# Tables that the end of open answers changes.
_OF_ANSWERS = {"chat_generation", "policy_consumption", "policy_reservation"}
IN_SPOOL = 3


def program(stack: Stack, *arguments: str, check: bool = True, **env: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.backup_site", *arguments],
        cwd=ROOT,
        env={**stack.env, **env},
        capture_output=True,
        text=True,
        check=check,
    )


def facts(stack: Stack, **env: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(program(stack, "facts", **env).stdout)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Return a stopped site on SQLite with rows in many tables."""
    stack = Stack(tmp_path_factory.mktemp("backup") / "data")
    data_dir.prepare(stack.data_dir)
    stack.prepare(None)
    program(stack, "fill")
    return stack


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    try:
        with private_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


def refusal(stack: Stack, *arguments: str, **env: str) -> str:
    done = stack.manage(*arguments, check=False, **env)
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.strip().splitlines()[-1:]
    return line


def test_a_killed_move_continues_and_a_backup_of_its_result_restores_into_sqlite(
    site: Stack, postgres: str, tmp_path: Path
) -> None:
    for batches in ("1", "30"):
        killed = program(site, "kill", batches, "move-database", postgres, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    moved = site.manage("move-database", postgres)
    assert "Copied and compared" in moved.stdout

    before = facts(site)
    assert before["audit"][0]
    on_postgres = facts(site, DATABASE_URL=postgres)
    assert on_postgres == before

    assert "is not empty" in refusal(site, "move-database", postgres)

    site.manage("backup", str(tmp_path), "--keep", "1", DATABASE_URL=postgres)
    (path,) = tmp_path.glob("*.zip")
    other = Stack(tmp_path / "other")
    restored = other.manage("restore", str(path))
    assert "Open answers that are now marked as interrupted: 2." in restored.stdout
    assert "manage.py models pull tiny" in restored.stdout
    (other.data_dir / KEY_FILE).write_text((site.data_dir / KEY_FILE).read_text())

    after = facts(other)
    changed = {
        name for name, found in after["tables"].items() if found != before["tables"].get(name)
    }
    # `facts` uses a key, and the backup brings the events of the spool into the chain.
    assert changed - {"accounts_apikey", "accounts_user"} <= _OF_ANSWERS | _OF_SPOOL
    assert after["tables"]["policy_reservation"][0] == 0
    assert after["search"] == before["search"]
    assert after["key"] == "ann"
    assert after["session"] == "value"
    assert after["audit"][0]
    verified = json.loads(other.manage("audit", "verify", "--json").stdout)
    assert verified["ok"]
    assert verified["events"] == before["audit"][1] + IN_SPOOL + len(
        ("database.moved", "backup.restored")
    )


class Writer(threading.Thread):
    """Writes conversations of two messages, each in one transaction, until it is stopped."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._ended = threading.Event()
        self.written: list[str] = []

    def run(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, timeout=20)) as database:
            while not self._ended.wait(0.001):
                ids = [uuid.uuid4().hex for _number in range(3)]
                with database:
                    _write_conversation(database, *ids)
                self.written += ids[1:]

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _write_conversation(database: sqlite3.Connection, *ids: str) -> None:
    """Copy a conversation and its two messages under new IDs."""
    chat, question, answer = ids
    for table, changes in (
        ("chat_conversation", {"id": chat, "head_id": answer}),
        ("chat_message", {"id": question, "conversation_id": chat, "parent_id": None}),
        ("chat_message", {"id": answer, "conversation_id": chat, "parent_id": question}),
    ):
        cursor = database.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608
        names = [column[0] for column in cursor.description]
        row = dict(zip(names, cursor.fetchone(), strict=True)) | changes
        marks = ", ".join("?" * len(names))
        statement = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608
        database.execute(statement, list(row.values()))


def test_a_backup_under_writes_is_one_state_with_all_that_was_finished(
    site: Stack, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(site.data_dir, folder, ignore=shutil.ignore_patterns("run"))
    (folder / "run").mkdir()
    writer = Writer(folder / "chatsite.sqlite3")
    writer.start()
    try:
        wait_until(lambda: len(writer.written) > 20, "conversations are written")
        finished = [*writer.written]
        site.manage("backup", str(tmp_path / "backup.zip"), CHATSITE_DATA_DIR=str(folder))
        later = len(writer.written)
    finally:
        writer.stop()
    assert later > len(finished), "nothing was written meanwhile"
    with Reader(tmp_path / "backup.zip") as reader:
        rows = {
            name: list(map(json.loads, reader.lines(f"database/{name}.jsonl")))
            for name in ("chat_conversation", "chat_message")
        }
        columns = {stored.table.name: stored.table.columns for stored in reader.manifest.tables}

    def values(table: str, column: str) -> set[str]:
        place = columns[table].index(column)
        return {row[place] for row in rows[table]}

    messages = values("chat_message", "id")
    assert messages >= set(finished)
    assert values("chat_message", "parent_id") - {None} <= messages
    assert values("chat_conversation", "head_id") - {None} <= messages
    assert values("chat_message", "conversation_id") <= values("chat_conversation", "id")


def test_a_full_disk_leaves_no_backup(site: Stack, tmp_path: Path) -> None:
    model = site.data_dir / "models" / f"sha256-{'a' * 64}"
    model.parent.mkdir(exist_ok=True)
    # Larger than the limit below, which the database's own files do not reach.
    model.touch()
    os.truncate(model, 16 << 20)
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", "backup", "--models", str(tmp_path / "backup.zip")],
            cwd=ROOT,
            env=site.env,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20)),
        )
    finally:
        model.unlink()
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_users_are_replaced_only_on_request_and_not_while_the_site_runs(
    site: Stack, tmp_path: Path
) -> None:
    path = tmp_path / "backup.zip"
    site.manage("backup", str(path))
    database = site.data_dir / "chatsite.sqlite3"
    before = database.read_bytes()
    assert "has 2 users" in refusal(site, "restore", str(path))
    with data_dir.locked(site.data_dir):
        for command in (("restore", str(path), "--force"), ("move-database", "sqlite:////tmp/x")):
            assert "Already running" in refusal(site, *command)
    key = refusal(site, "restore", str(path), "--force", CHATSITE_SECRET_KEY="other")
    assert "Unset it" in key
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged" in refusal(site, "restore", str(path), "--force")
    assert database.read_bytes() == before
    assert {entry.name for entry in site.data_dir.iterdir()} >= {"secret_key", KEY_FILE}
    assert not list(site.data_dir.glob("before-restore-*"))
    assert not list(site.data_dir.glob("*restoring*"))


def test_an_archive_of_an_older_version_is_migrated(site: Stack, tmp_path: Path) -> None:
    """The last migration of generations adds a column, which the archive lacks."""
    old = Stack(tmp_path / "old")
    shutil.copytree(site.data_dir, old.data_dir)
    before = facts(old)
    path = tmp_path / "old.zip"
    program(old, "older", "chat", "0013_generations_outlive_content", str(path))
    other = Stack(tmp_path / "other")
    restored = other.manage("restore", str(path))
    assert re.search(r"Applied \d+ newer migrations", restored.stdout)
    (other.data_dir / KEY_FILE).write_text((site.data_dir / KEY_FILE).read_text())
    after = facts(other)
    assert after["tables"]["chat_message"] == before["tables"]["chat_message"]
    assert after["tables"]["chat_generation"][0] == before["tables"]["chat_generation"][0]
    assert after["search"] == before["search"]


def test_rows_are_read_in_the_order_of_keys(site: Stack) -> None:
    """A move and its comparison rely on it; PostgreSQL's own order depends on the locale."""
    database = open_database(
        {"ENGINE": "django.db.backends.sqlite3", "NAME": site.data_dir / "chatsite.sqlite3"}
    )
    try:
        for table in tables():
            place = table.columns.index(table.key)
            keys: list[Any] = [row[place] for row in database.rows(table)]
            assert keys == sorted(keys)
            if keys:
                assert database.last_key(table) == keys[-1]
                after = [row[place] for row in database.rows(table, keys[0])]
                assert after == keys[1:]
    finally:
        database.close()
