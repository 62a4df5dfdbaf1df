from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from chatsite.supervisor import data_dir
from chatsite.supervisor.data_dir import DataDirProblem


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "data"
    data_dir.prepare(path)
    assert mode(path) == 0o700
    assert mode(path / "run") == 0o700


def test_an_existing_data_folder_becomes_private_again(tmp_path: Path) -> None:
    path = tmp_path / "data"
    data_dir.prepare(path)
    path.chmod(0o755)
    data_dir.prepare(path)
    assert mode(path) == 0o700


def test_a_fresh_disk_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    data_dir.prepare(tmp_path)
    assert mode(tmp_path / "run") == 0o700


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letters").mkdir()
    with pytest.raises(DataDirProblem, match=r"contains other files \(letters"):
        data_dir.prepare(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataDirProblem, match="a part of that path is a file"):
        data_dir.prepare(tmp_path / "data")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "has no write permission"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_errors_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataDirProblem, match=words):
        data_dir.prepare(tmp_path / "data")


def test_the_lock_has_one_holder_and_names_it(tmp_path: Path) -> None:
    data_dir.prepare(tmp_path)
    with (
        data_dir.locked(tmp_path),
        pytest.raises(DataDirProblem, match=f"process {os.getpid()}"),
        data_dir.locked(tmp_path),
    ):
        pass
    with data_dir.locked(tmp_path):
        pass


def test_parts_exclude_themselves_and_the_whole(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with data_dir.locked(tmp_path, {"web"}):
        with data_dir.locked(tmp_path, {"worker", "inference"}):
            pass
        for other in ({"web", "redis"}, set()):
            with (
                pytest.raises(data_dir.DataDirProblem, match="Already running"),
                data_dir.locked(tmp_path, other),
            ):
                pass
    with (
        data_dir.locked(tmp_path),
        pytest.raises(data_dir.DataDirProblem, match="Already running"),
        data_dir.locked(tmp_path, {"web"}),
    ):
        pass
