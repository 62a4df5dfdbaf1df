"""What the machine has to bring: checked with a sentence that says how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from scripts.setup.console import Problem, run, step

MINIMUM_PYTHON = (3, 11)


def check_python() -> None:
    if sys.version_info < MINIMUM_PYTHON:
        raise Problem(
            f"Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer is needed; this is "
            f"{sys.version.split()[0]}. Name a newer one: make PYTHON=python3.12 …"
        )


def check_compiler() -> None:
    """For llama-cpp-python, which comes as source so that it fits the machine."""
    named = os.environ.get("CXX", "").split()[:1]
    if not any(shutil.which(name) for name in (*named, "c++", "g++", "clang++")):
        raise Problem(f"a C++ compiler is needed. {advice(['g++'])}")


def advice(packages: Sequence[str]) -> str:
    words = " ".join(packages)
    if shutil.which("apt-get"):
        return f"Run: sudo apt-get install {words}"
    return f"Install what your system calls {words} in Debian."


def may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], reason: str) -> None:
    """As root on Debian; elsewhere stops with the command to run."""
    if not may_install():
        raise Problem(f"{reason} {advice(packages)}")
    step(f"Installing {', '.join(packages)} with apt-get")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    problem = f"apt-get failed. {advice(packages)}"
    if not _lists_present():
        run(["apt-get", "update"], env=quiet, problem=problem)
    try:
        run(
            ["apt-get", "install", "-y", "--no-install-recommends", *packages],
            env=quiet,
            problem=problem,
        )
    except Problem:
        # Lists that are older than the archive name packages that are gone.
        run(["apt-get", "update"], env=quiet, problem=problem)
        run(
            ["apt-get", "install", "-y", "--no-install-recommends", *packages],
            env=quiet,
            problem=problem,
        )


def _lists_present() -> bool:
    listing = subprocess.run(
        ["apt-cache", "policy", "python3-venv"], capture_output=True, text=True, check=False
    )
    return "Candidate: " in listing.stdout and "Candidate: (none)" not in listing.stdout


def cpu_features() -> str:
    """The instructions that a build for this machine may use; another machine's build would
    end with an illegal instruction."""
    names: set[str] = set()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:  # noqa: PTH123
            for line in info:
                key, _, value = line.partition(":")
                if key.strip() in {"flags", "Features"}:
                    names = set(value.split())
                    break
    except OSError:
        pass
    vector = ("sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "asimd", "sve", "i8mm", "bf16")
    return " ".join(sorted(name for name in names if name.startswith(vector)))
