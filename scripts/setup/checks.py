"""`make lint` and `make test`: what they need, then every check in turn."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
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


# Those that start the whole product, which mostly wait, and the others, which mostly compute: side
# by side they take little more than the longer of the two.
_PRODUCT = ("tests/browser", "tests/clients", "tests/faults", "tests/bench")
_OTHERS = ("tests/integration", "tests/unit")


def test() -> None:
    """All tests; those of the database a second time on PostgreSQL."""
    lint()
    extra = shlex.split(os.environ.get("PYTEST_ARGS", ""))
    pytest: list[str | Path] = [_BIN / "python", "-m", "pytest"]
    postgres = [
        *(_BIN / "python", "-m", "tests.support.postgres"),
        # The engine has no database.
        *(*pytest, "tests/integration", "--ignore=tests/integration/engine"),
        *("-m", "not stack", *extra),
    ]
    _check("page: tests", [*page.node().npm, "test", "--silent"], cwd=PAGE)
    _side_by_side(
        [("pytest of the whole product", [*pytest, *_PRODUCT, *extra])],
        [
            ("pytest", [*pytest, *_OTHERS, *extra]),
            ("pytest tests/integration on PostgreSQL", postgres),
        ],
    )


def _side_by_side(*rows: Sequence[tuple[str, Sequence[str | Path]]]) -> None:
    """Each row of checks one after another, the rows at once; the output of the first row comes
    as it is made, that of the others when they have ended. Stops when all have, if one failed."""
    environment = {"CHATSITE_TEST_MODEL": str(STARTER)}
    problems: list[SystemExit] = []

    def work(row: Sequence[tuple[str, Sequence[str | Path]]], *, live: bool) -> None:
        try:
            for name, command in row:
                _check(name, command, env=environment, live=live)
        except SystemExit as problem:
            problems.append(problem)

    threads = [
        threading.Thread(target=work, args=(row,), kwargs={"live": number == 0})
        for number, row in enumerate(rows)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def _check(
    name: str,
    command: Sequence[str | Path],
    *,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
    live: bool = True,
) -> None:
    """Runs a check with its output on ours, at its end unless ``live``; stops all at the first
    that fails."""
    if live:
        step(name)
    began = time.monotonic()
    path = f"{page.node().folder}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PATH": path, **(env or {})},
        check=False,
        stdout=None if live else subprocess.PIPE,
        stderr=None if live else subprocess.STDOUT,
    )
    if not live:
        step(name)
        sys.stdout.flush()
        sys.stdout.buffer.write(done.stdout)
    if done.returncode != 0:
        raise SystemExit(f"\n{name} failed (exit code {done.returncode}).")
    print(f"    {name}: {spell(time.monotonic() - began)}", flush=True)
