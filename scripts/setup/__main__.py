"""`python3 -m scripts.setup setup | run | test | lint | lock | bench`; see the Makefile."""

from __future__ import annotations

import os
import subprocess
import sys

from scripts.setup import checks, page, python_env, site_data, wheels
from scripts.setup.console import step
from scripts.setup.paths import MANAGE, ROOT, VENV_PYTHON, data_dir


def prepare(kind: str = "base") -> None:
    """Everything up to the start; does nothing, quickly, when all stamps hold."""
    python_env.install(kind)
    page.build()
    site_data.compile_translations()
    site_data.collect_static()
    if not os.environ.get("CHATSITE_REDIS_URL"):
        wheels.fetch_redis()


def setup() -> None:
    prepare()
    site_data.fill_data_dir()
    step("All set. Start with: make run")


def run() -> None:
    prepare()
    site_data.fill_data_dir()
    options = ["--data-dir", str(data_dir())]
    for name in ("host", "port"):
        if value := os.environ.get(name.upper()):
            options += [f"--{name}", value]
    _become("up", *options)


def _tools() -> None:
    prepare("dev")
    page.install_modules(tools=True)


def test() -> None:
    checks.install_system_packages()
    _tools()
    wheels.fetch_starter()
    checks.test()


def lint() -> None:
    _tools()
    checks.lint()


def lock() -> None:
    python_env.lock_all(upgrade=bool(os.environ.get("UPGRADE")))


def bench() -> None:
    """Speed of answers, what the API costs, then speed of pages."""
    prepare()
    wheels.fetch_starter()
    for part in (sys.argv[2:], ["--overhead"]):
        subprocess.run([str(VENV_PYTHON), str(MANAGE), "bench", *part], check=True)
    _become("bench", "--pages")


def _become(*arguments: str) -> None:
    """Turns into a command of the product: signals and the terminal are then its own."""
    sys.stdout.flush()
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), str(MANAGE), *arguments])  # noqa: S606


TARGETS = {target.__name__: target for target in (setup, run, test, lint, lock, bench)}


def main() -> None:
    os.chdir(ROOT)
    target = TARGETS.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if target is None:
        raise SystemExit(f"What to do? One of: {', '.join(TARGETS)}")
    try:
        target()
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. The same command goes on where this one ended.") from None


if __name__ == "__main__":
    main()
