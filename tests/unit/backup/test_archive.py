"""The file of a backup: complete or absent, and refused after any change."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatsite.backup import archive
from chatsite.backup.archive import Manifest, Member, Model, Reader, StoredTable, Writer
from chatsite.backup.errors import BackupRefused, BadArchive
from chatsite.backup.tables import Table

TABLE = Table("some_table", ["id", "text"], ["plain", "text"], "id", serial=True)
LINES = [b'[1,"a"]\n', b'[2,"b"]\n']


def write(path: Path, **changes: Any) -> Manifest:
    """Write a small backup, whose manifest has ``changes``."""
    with archive.written(path) as file:
        writer = Writer(file)
        writer.add("secret_key", [b"key"])
        writer.add("settings.json", [b"{}"])
        writer.add("database/some_table.jsonl", LINES, rows=True)
        values: dict[str, Any] = {
            "version": "0.1.0",
            "created_at": "2026-01-31T12:00:00+00:00",
            "host": "box",
            "vendor": "sqlite",
            "migrations": [("chat", "0001_initial")],
            "tables": [StoredTable(TABLE, 2, 2)],
            "models": [],
            "members": writer.members,
        }
        manifest = archive.new_manifest(**(values | changes))
        writer.finish(manifest)
    return manifest


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup.zip"
    write(path)
    return path


def rewritten(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """Write the members of an archive again after ``change``."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


def manifest_with(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members["manifest.json"] = json.dumps(
            json.loads(members["manifest.json"]) | changes
        ).encode()

    return change


def refused(path: Path, match: str) -> None:
    with pytest.raises(BadArchive, match=match):
        read(path)


def read(path: Path) -> None:
    with Reader(path) as reader:
        reader.verify()


def test_a_backup_is_private_and_reads_as_it_was_written(backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with Reader(backup) as reader:
        reader.verify()
        assert reader.content("secret_key") == b"key"
        assert list(reader.lines("database/some_table.jsonl")) == [b'[1,"a"]', b'[2,"b"]']
        assert reader.manifest.rows == 2


def test_an_existing_backup_is_replaced_only_on_request(backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(BackupRefused, match="--force"):
        write(backup)
    assert backup.read_bytes() == before
    with archive.written(backup, replace=True) as file:
        file.write(b"new")
    assert backup.read_bytes() == b"new"


def fill_disk(path: Path) -> None:
    with archive.written(path) as file:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_backup_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "backup.zip"
    with pytest.raises(BackupRefused, match="disk is full"):
        fill_disk(path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_backup_has_no_name_and_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom chatsite.backup import archive\n"
        "with archive.written(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n    file.flush()\n    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
    path = tmp_path / "backup.zip"
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environment)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    write(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_backup_that_is_being_written_is_not_removed(tmp_path: Path) -> None:
    with archive.written(tmp_path / "one.zip") as first:
        first.write(b"one")
        write(tmp_path / "two.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"one.zip", "two.zip"}


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_backup_is_refused(backup: Path, part: float) -> None:
    content = backup.read_bytes()
    backup.write_bytes(content[: int(len(content) * part)])
    refused(backup, "damaged, incomplete or not a backup")


def test_flipped_bytes_of_a_member_are_found(backup: Path) -> None:
    content = backup.read_bytes()
    with zipfile.ZipFile(backup) as opened:
        info = opened.getinfo("database/some_table.jsonl")
        names = len(info.filename)
    start = info.header_offset + 30 + names + 20  # behind the header and its ZIP64 field
    unnoticed = 0
    for place in range(start, start + info.compress_size):
        changed = bytearray(content)
        changed[place] ^= 0x10
        backup.write_bytes(changed)
        try:
            with Reader(backup) as reader:
                reader.verify()
                # The last byte has bits without a meaning.
                assert list(reader.lines("database/some_table.jsonl")) == [b'[1,"a"]', b'[2,"b"]']
                unnoticed += 1
        except BadArchive:
            pass
    assert unnoticed <= 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"SQLite format 3\0" * 100)
    refused(path, "not a backup")
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("mimetype", "application/epub+zip")
    refused(path, "no backup of this product")
    rewritten(path, lambda members: members.update({"manifest.json": b'{"kind":"x","format":1}'}))
    refused(path, "no backup of this product")
    with pytest.raises(BackupRefused, match="No such file"):
        Reader(tmp_path / "missing")
    with pytest.raises(BackupRefused, match="directory"):
        Reader(tmp_path)


def test_a_member_with_other_content_is_refused(backup: Path) -> None:
    rewritten(backup, lambda members: members.update({"secret_key": b"yek"}))
    refused(backup, "secret_key differs")


def test_a_missing_or_additional_member_is_refused(backup: Path) -> None:
    content = backup.read_bytes()
    rewritten(backup, lambda members: members.pop("database/some_table.jsonl"))
    refused(backup, "missing")
    backup.write_bytes(content)
    rewritten(backup, lambda members: members.update({"../../etc/passwd": b"root"}))
    refused(backup, "that the manifest lacks")


@pytest.mark.parametrize(
    "name",
    ["../secret_key", "/etc/passwd", "audit/../../x.jsonl", "models/sha256-..", "database/A.jsonl"],
)
def test_a_manifest_cannot_name_paths(backup: Path, name: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["members"].append(msgspec.to_builtins(Member(name, 0, "0" * 64)))
        members["manifest.json"] = json.dumps(manifest).encode()
        members[name] = b""

    rewritten(backup, change)
    refused(backup, "unknown member")


def test_a_member_twice_is_refused(backup: Path) -> None:
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(backup, "a") as opened,
    ):
        opened.writestr("secret_key", b"other")
    refused(backup, "exist twice")


@pytest.mark.parametrize("lies", [False, True])
def test_a_member_that_unpacks_to_more_than_the_manifest_says_is_refused(
    backup: Path, lies: bool
) -> None:
    name, bomb = "models/sha256-" + "0" * 64, 50 << 20
    with zipfile.ZipFile(backup) as opened:
        members = {one: opened.read(one) for one in opened.namelist()}
    manifest = json.loads(members["manifest.json"])
    manifest["members"].append(msgspec.to_builtins(Member(name, 5, "0" * 64)))
    members |= {"manifest.json": json.dumps(manifest).encode(), name: bytes(bomb)}
    with zipfile.ZipFile(backup, "w", zipfile.ZIP_DEFLATED) as opened:
        for one, content in members.items():
            opened.writestr(one, content)
    if lies:
        # The headers of the archive, too, promise five bytes.
        real = bomb.to_bytes(4, "little")
        assert backup.read_bytes().count(real) == 2
        backup.write_bytes(backup.read_bytes().replace(real, (5).to_bytes(4, "little")))
    refused(backup, "damaged" if lies else "another size")


def test_a_newer_format_names_its_version(backup: Path) -> None:
    rewritten(backup, manifest_with(format=99, version="9.0"))
    with pytest.raises(BackupRefused, match=r"written by version 9\.0"):
        Reader(backup)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tables": "none"}, "manifest can't be read"),
        ({"tables": [msgspec.to_builtins(StoredTable(TABLE, 3))]}, "rows of some_table are miss"),
        (
            {"models": [msgspec.to_builtins(Model("0" * 64, 1, ["tiny"], included=True))]},
            "model file 0+ is missing",
        ),
    ],
)
def test_a_manifest_that_contradicts_its_archive_is_refused(
    backup: Path, changes: dict[str, Any], match: str
) -> None:
    rewritten(backup, manifest_with(**changes))
    refused(backup, match)
