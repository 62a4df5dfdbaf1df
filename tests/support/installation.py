"""A separate installation for processes that tests start: a data directory with SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import ROOT, prepare_data


def environment(data_dir: Path) -> dict[str, str]:
    """Return the environment of a process of that installation, independent of this test run's."""
    ours = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return ours | {
        "CHATSITE_DATA_DIR": str(data_dir),
        "DJANGO_SETTINGS_MODULE": "chatsite.settings",
        "PYTHONPATH": str(ROOT),
    }


def manage(
    env: dict[str, str], *arguments: str, **options: Any
) -> subprocess.CompletedProcess[str]:
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
    """Return the next line that a `python` process prints."""
    assert process.stdout
    return process.stdout.readline().rstrip()


def go(process: subprocess.Popen[str]) -> None:
    """Send a process the line that it waits for."""
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def migrated(tmp_path: Path) -> dict[str, str]:
    """Return the environment of an empty installation."""
    folder = tmp_path / "installation"
    prepare_data(folder)
    return environment(folder)
