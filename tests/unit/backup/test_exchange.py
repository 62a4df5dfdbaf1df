"""The exchange of a restore: killed after any step, it is completed by the next call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.conf import settings

from chatsite.backup import restore
from chatsite.env import Environment
from chatsite.supervisor import data_dir
from chatsite.supervisor.data_dir import DataDirProblem

DIGEST = "a" * 64
OLD = {
    "chatsite.sqlite3": "old",
    "chatsite.sqlite3-wal": "old",
    "secret_key": "old",
    "redis/appendonly": "old",
    "run/audit/1.jsonl": "old",
    "models/sha256-kept": "kept",
    "tuning.json": "kept",
}
NEW = {
    "chatsite.sqlite3.restoring": "new",
    "restoring/secret_key": "new",
    "restoring/run/audit/2.jsonl": "new",
    f"restoring/models/sha256-{DIGEST}": "new",
}


class Killed(BaseException):
    pass


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    environment: Environment = settings.ENV
    changed = environment.model_copy(update={"data_dir": tmp_path})
    monkeypatch.setattr(settings, "ENV", changed)
    for name, text in (OLD | NEW).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def target(folder: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "chatsite.sqlite3"}


@pytest.mark.parametrize("steps", range(10))
def test_an_exchange_that_is_killed_after_any_step_is_completed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    exchange = restore.planned(folder / "restoring", target(folder))
    restore.begin(exchange)
    with pytest.raises(DataDirProblem, match="restore --resume"):
        data_dir.require_restored(folder)
    left = steps
    rename = Path.rename

    def counted(path: Path, to: str) -> Path:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        return rename(path, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted)
        try:
            restore.complete(exchange, target(folder))
        except Killed:
            pass
        else:
            assert steps == 9  # four old entries and the journal, four new ones
    if steps < 9:
        marker = data_dir.interrupted_restore(folder).read_bytes()
        again = msgspec.json.decode(marker, type=restore.Exchange)
        restore.complete(again, target(folder))
    data_dir.require_restored(folder)
    aside = Path(exchange.folder).name
    assert content(folder) == {
        "chatsite.sqlite3": "new",
        "secret_key": "new",
        "run/audit/2.jsonl": "new",
        f"models/sha256-{DIGEST}": "new",
        **{name: text for name, text in OLD.items() if text == "kept"},
        **{f"{aside}/{name}": text for name, text in OLD.items() if text == "old"},
    }
