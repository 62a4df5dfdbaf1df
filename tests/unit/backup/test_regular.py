"""Regular backups: when they are made, which are kept, and when their age is a problem."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from chatsite.backup import age, create, tasks
from chatsite.backup.errors import BackupRefused
from chatsite.env import Environment


def backup(folder: Path, hours: float) -> Path:
    moment = datetime.now(UTC) - timedelta(hours=hours)
    path = folder / moment.strftime("chatsite-backup-%Y%m%dT%H%M%SZ.zip")
    path.touch()
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    environment: Environment = settings.ENV
    changes = {"backup_dir": tmp_path, "backup_hours": 24, "backup_keep": 2, "backup_age_hours": 48}
    monkeypatch.setattr(settings, "ENV", environment.model_copy(update=changes))
    return tmp_path


@pytest.fixture
def events(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(tasks, "record", lambda kind, **values: found.append((kind, values)))
    monkeypatch.setattr(create, "create_recorded", lambda path, **_options: path.touch())
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.zip")}


@pytest.mark.usefixtures("events")
def test_the_newest_are_kept(folder: Path) -> None:
    old = [backup(folder, hours) for hours in (72, 48, 24)]
    other = folder / "mine.zip"
    other.touch()
    tasks.create_regular()
    assert len(names(folder)) == 3
    assert {old[2].name, other.name} < names(folder)


@pytest.mark.usefixtures("events")
def test_none_is_made_while_another_machine_has_just_made_one(folder: Path) -> None:
    made = backup(folder, 1)
    tasks.create_regular()
    assert names(folder) == {made.name}


@pytest.mark.usefixtures("events")
def test_none_is_made_while_another_one_is_being_made(folder: Path) -> None:
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        tasks.create_regular()
    assert names(folder) == set()


def test_a_failure_is_an_audit_event(
    folder: Path, events: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path, **_options: Any) -> None:
        raise BackupRefused("The disk is full.")

    monkeypatch.setattr(create, "create_recorded", fail)
    kept = backup(folder, 100)
    tasks.create_regular()
    ((kind, values),) = events
    assert (kind, values["outcome"]) == ("backup.created", "failed")
    assert "full" in values["reason"]
    assert names(folder) == {kept.name}


def test_the_age_is_that_of_the_newest_name(folder: Path) -> None:
    def found() -> age.Standing:
        standing = age.standing()
        assert standing
        return standing

    assert found().is_stale
    backup(folder, 49)
    (folder / "chatsite-backup-latest.zip").touch()
    assert found().is_stale
    backup(folder, 47)
    assert not found().is_stale


def test_a_folder_that_cannot_be_read_is_a_problem(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: Environment = settings.ENV
    missing = environment.model_copy(update={"backup_dir": folder / "missing"})
    monkeypatch.setattr(settings, "ENV", missing)
    standing = age.standing()
    assert standing
    assert standing.error
    assert standing.is_stale


def test_without_a_folder_backups_are_not_checked() -> None:
    assert age.standing() is None
    tasks.create_regular()
