"""An installation of its own for processes that tests start: a data folder and SQLite in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def environment(data_dir: Path) -> dict[str, str]:
    """What a process of that installation gets, whatever this test run itself uses."""
    ours = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return ours | {
        "CHATSITE_DATA_DIR": str(data_dir),
        "DJANGO_SETTINGS_MODULE": "chatsite.settings",
        "PYTHONPATH": str(ROOT),
    }


def manage(env: dict[str, str], *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def python(env: dict[str, str], code: str, *arguments: str) -> subprocess.Popen[str]:
    command: Sequence[str] = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def heard(process: subprocess.Popen[str]) -> str:
    """The next line that a `python` process prints."""
    assert process.stdout
    return process.stdout.readline().rstrip()


def go(process: subprocess.Popen[str]) -> None:
    """Lets one go on that waits for a line."""
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def migrated(tmp_path) -> dict[str, str]:
    """The environment of an empty installation."""
    env = environment(tmp_path / "installation")
    done = manage(env, "migrate", "-v0", "--skip-checks")
    assert done.returncode == 0, done.stderr
    return env
