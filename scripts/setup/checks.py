"""`make lint` and `make test`: what they need, then every check in turn."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.setup import page, system
from scripts.setup.compile_progress import spell
from scripts.setup.console import step
from scripts.setup.paths import BUILD, PAGE, ROOT, STARTER, VENV

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BIN = VENV / "bin"


def install_system_packages() -> None:
    """A browser, and servers for tests to start privately."""
    missing = []
    if not any(shutil.which(name) for name in _BROWSERS):
        missing.append("chromium")
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        missing.append("redis-server")
    if not (shutil.which("initdb") or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        missing.append("postgresql")
    if missing:
        system.install(missing, f"The tests need {', '.join(missing)}.")


def lint() -> None:
    scratch = {"CHATSITE_DATA_DIR": str(BUILD / "scratch")}
    _check("ruff check", [_BIN / "ruff", "check", "."])
    _check("ruff format", [_BIN / "ruff", "format", "--check", "."])
    # mypy's Django plugin loads the settings, which make a key in the data folder.
    _check("mypy", [_BIN / "mypy"], env=scratch)
    _check("djlint", [_BIN / "djlint", "--lint", "--quiet", "templates"])
    _check("page: types and format", [*page.node().npm, "run", "--silent", "check"], cwd=PAGE)


def test() -> None:
    """All tests; those of the database a second time on PostgreSQL."""
    lint()
    environment = {"CHATSITE_TEST_MODEL": str(STARTER)}
    extra = shlex.split(os.environ.get("PYTEST_ARGS", ""))
    pytest: list[str | Path] = [_BIN / "python", "-m", "pytest"]
    _check("page: tests", [*page.node().npm, "test", "--silent"], cwd=PAGE)
    _check("pytest", [*pytest, *extra], env=environment)
    _check(
        "pytest tests/integration on PostgreSQL",
        [
            *(_BIN / "python", "-m", "tests.support.postgres"),
            # The engine has no database.
            *(*pytest, "tests/integration", "--ignore=tests/integration/engine"),
            *("-m", "not stack", *extra),
        ],
        env=environment,
    )


def _check(
    name: str,
    command: Sequence[str | Path],
    *,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
) -> None:
    """Runs a check with its output on ours; stops all at the first that fails."""
    step(name)
    began = time.monotonic()
    path = f"{page.node().folder}{os.pathsep}{os.environ.get('PATH', '')}"
    code = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PATH": path, **(env or {})},
        check=False,
    ).returncode
    if code != 0:
        raise SystemExit(f"\n{name} failed (exit code {code}).")
    print(f"    {name}: {spell(time.monotonic() - began)}", flush=True)
