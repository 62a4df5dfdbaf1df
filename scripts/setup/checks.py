"""The checks of `make lint`, `make test-fast` and `make test`, and what they need."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from scripts.setup import page, system
from scripts.setup.compile_progress import spell
from scripts.setup.console import step
from scripts.setup.paths import BUILD, EMBEDDING, PAGE, ROOT, STARTER, VENV

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BIN = VENV / "bin"
# Exit status of pytest if it collected no tests.
_NO_TESTS = 5


class Check(NamedTuple):
    """A command. ``selects``: PYTEST_ARGS may deselect all of its tests, which is not a failure.

    ``repeat`` runs what failed once more; empty: a failure is final.
    """

    name: str
    command: Sequence[str | Path]
    selects: bool = False
    repeat: Sequence[str | Path] = ()


def install_system_packages() -> None:
    """Install a browser, and the servers that tests start."""
    missing = []
    if not any(shutil.which(name) for name in _BROWSERS):
        missing.append("chromium")
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        missing.append("redis-server")
    if not (shutil.which("initdb") or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        missing.append("postgresql")
    if not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()):
        missing.append("nginx-light")
    if not shutil.which("caddy"):
        missing.append("caddy")
    if not Path("/usr/sbin/slapd").exists():
        missing.append("slapd")
    if not (shutil.which("pgbouncer") or Path("/usr/sbin/pgbouncer").exists()):
        missing.append("pgbouncer")
    if missing:
        system.install(missing, f"The tests need {', '.join(missing)}.")


def _quick_lint() -> list[Check]:
    """Return the checks of `make lint` except mypy, which takes minutes without its cache."""
    npm: list[str | Path] = [*page.node().npm, "--prefix", PAGE]
    return [
        Check("ruff check", [_BIN / "ruff", "check", "."]),
        Check("ruff format", [_BIN / "ruff", "format", "--check", "."]),
        Check("lint-imports", [_BIN / "lint-imports", "--no-logo", "--no-cache"]),
        Check("djlint", [_BIN / "djlint", "--lint", "--quiet", "templates"]),
        Check("page: types, lint and format", [*npm, "run", "--silent", "check"]),
    ]


def _mypy() -> Check:
    return Check("mypy", [_BIN / "mypy"])


def lint() -> None:
    _run_in_order([*_quick_lint(), _mypy()])


def _page_tests() -> Check:
    return Check("page: tests", [*page.node().npm, "--prefix", PAGE, "test", "--silent"])


def _pytest(name: str, *arguments: str, before: Sequence[str | Path] = ()) -> Check:
    extra = shlex.split(os.environ.get("PYTEST_ARGS", ""))
    command = [*before, _BIN / "python", "-m", "pytest", *arguments, *extra]
    return Check(name, command, selects=bool(extra))


def test_fast() -> None:
    """Run unit tests and quick checks in parallel: no product process, no browser, no mypy."""
    run_side_by_side([_pytest("pytest tests/unit", "tests/unit"), *_quick_lint(), _page_tests()])


def test() -> None:
    """Run all tests, and those that use the database again on PostgreSQL."""
    _run_in_order([*_quick_lint(), _page_tests()])
    with tempfile.TemporaryDirectory(
        prefix="chatsite-tests-", ignore_cleanup_errors=True
    ) as shared:
        # Installations that the first process prepares, for all of them.
        os.environ["CHATSITE_TEST_SHARED"] = shared
        run_side_by_side([*_tests(Path(shared)), _mypy()])


def _tests(shared: Path) -> list[Check]:
    """Return the checks of `make test` that run side by side.

    Those that mostly wait, for a browser or a process that restarts, are first, so that they run
    beside those that compute; short ones are last and fill the gap at the end.
    """
    processes = ("tests/integration", "tests/unit")
    checks = [
        _pytest("pytest of the page, 1 of 2", "tests/browser", "--part", "1/2"),
        _pytest("pytest of processes and units, 1 of 2", *processes, "--part", "1/2"),
        _pytest("pytest of clients and faults", "tests/clients", "tests/faults", "tests/bench"),
        _pytest("pytest of processes and units, 2 of 2", *processes, "--part", "2/2"),
        _pytest("pytest of the page, 2 of 2", "tests/browser", "--part", "2/2"),
        _pytest(
            "pytest on PostgreSQL",
            *("tests/integration", "-m", "database and not stack and not slow and not once"),
            before=(_BIN / "python", "-m", "tests.support.postgres"),
        ),
    ]
    return [_repeatable(check, shared / f"cache-{at}") for at, check in enumerate(checks)]


def _repeatable(check: Check, cache: Path) -> Check:
    """Let the failed tests run once more; all of them if pytest did not get to its end."""
    command = [*check.command, "-o", f"cache_dir={cache}"]
    return check._replace(command=command, repeat=[*command, "--last-failed"])


def coverage() -> None:
    """Run units and integration under coverage and print the lines that no test reaches.

    Processes of the product that tests start are not measured.
    """
    program: list[str | Path] = [_BIN / "python", "-m", "coverage"]
    pytest = ["-m", "pytest", "tests/unit", "tests/integration", "-m", "not stack"]
    extra = shlex.split(os.environ.get("PYTEST_ARGS", ""))
    run: list[str | Path] = [*program, "run", *pytest, *extra]
    _run_in_order(
        [
            Check("pytest under coverage", run, selects=bool(extra)),
            Check("coverage report", [*program, "report"]),
        ]
    )


def _run_in_order(checks: Sequence[Check]) -> None:
    """Run checks in order with their output. Raises `SystemExit` at the first failure."""
    for check in checks:
        step(check.name)
        began = time.monotonic()
        if not _passes(check, _start(check).wait()):
            raise SystemExit(f"\n{check.name} failed.")
        _say_done(check, began)


def run_side_by_side(checks: Sequence[Check], places: int | None = None) -> None:
    """Run all checks, in order, with at most ``places`` in parallel.

    ``places`` defaults to one more than the number of processors, since checks also wait, but to
    four at most.

    The output of each check is printed when it ends. What failed of a check with ``repeat`` runs
    again at the end, alone: a test that depends on the speed of a busy machine is reported as
    flaky, and only one that fails alone too fails the check. Raises `SystemExit` at the end, with
    the failed checks.
    """
    if places is None:
        places = min((os.cpu_count() or 1) + 1, 4)
    printing = threading.Lock()

    def run(check: Check) -> bool:
        print(f"    {check.name}: started", flush=True)
        began = time.monotonic()
        process = _start(check, captured=True)
        with process.stdout or io.BytesIO() as stream:
            output = stream.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with printing:
            step(check.name)
            sys.stdout.flush()
            sys.stdout.buffer.write(output)
            _say_done(check, began, usage.ru_utime + usage.ru_stime)
            if not (passes := _passes(check, process.returncode)):
                print(f"    {check.name}: exit status {process.returncode}", flush=True)
        return passes

    with ThreadPoolExecutor(places) as pool:
        results = list(zip(checks, pool.map(run, checks), strict=True))
    failed = [check for check, passes in results if not passes]
    flaky = [check for check in failed if check.repeat and run(_again(check))]
    if flaky:
        print(f"\nFlaky: {_names(flaky)}: what failed passed alone.", flush=True)
    if final := [check for check in failed if check not in flaky]:
        raise SystemExit(f"\nFailed: {_names(final)}.")


def _again(check: Check) -> Check:
    return Check(f"{check.name}, what failed, alone", check.repeat, selects=check.selects)


def _names(checks: Sequence[Check]) -> str:
    return ", ".join(check.name for check in checks)


def _say_done(check: Check, began: float, cpu: float | None = None) -> None:
    """Print the time that a check took, and its CPU time: the rest of it was waiting."""
    computing = "" if cpu is None else f", of which CPU {spell(cpu)}"
    print(f"    {check.name}: {spell(time.monotonic() - began)}{computing}", flush=True)


def _passes(check: Check, code: int) -> bool:
    return code == 0 or (check.selects and code == _NO_TESTS)


def _start(check: Check, *, captured: bool = False) -> subprocess.Popen[bytes]:
    path = f"{page.node().folder}{os.pathsep}{os.environ.get('PATH', '')}"
    # mypy's Django plugin loads the settings, which create a key in the data folder.
    env = {**os.environ, "PATH": path, "CHATSITE_DATA_DIR": str(BUILD / "scratch")}
    if STARTER.exists():
        env["CHATSITE_TEST_MODEL"] = str(STARTER)
    if EMBEDDING.exists():
        env["CHATSITE_TEST_EMBEDDING_MODEL"] = str(EMBEDDING)
    return subprocess.Popen(
        [str(word) for word in check.command],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE if captured else None,
        stderr=subprocess.STDOUT if captured else None,
    )
