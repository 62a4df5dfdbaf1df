"""The version is defined once, and the change log lists it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from chatsite.version import product_version

ROOT = Path(__file__).resolve().parents[2]


def released() -> list[str]:
    """Return the versions with a section in the change log, newest first."""
    text = (ROOT / "CHANGELOG.md").read_text()
    return re.findall(r"(?m)^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", text)


@pytest.mark.parametrize("argument", ["--version", "version"])
def test_manage_py_prints_the_version_of_the_project(argument: str) -> None:
    printed = subprocess.run(
        [sys.executable, "manage.py", argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert printed.strip() == project["version"] == product_version()


def test_the_change_log_ends_at_the_version_of_the_project() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert released()[0] == product_version()
    assert text.index("## [Unreleased]") < text.index(f"## [{product_version()}]")
