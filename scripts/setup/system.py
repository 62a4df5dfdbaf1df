"""System requirements; a failed check says how to meet it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from scripts.setup.console import Problem, run, step

MINIMUM_PYTHON = (3, 11)


def check_python() -> None:
    if sys.version_info < MINIMUM_PYTHON:
        raise Problem(
            f"Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer is required; this is "
            f"{sys.version.split()[0]}. Use a newer one: make PYTHON=python3.12 …"
        )


def check_compiler() -> None:
    """Check for a C++ compiler: llama-cpp-python is built from source for this machine.

    Raises `Problem`.
    """
    named = os.environ.get("CXX", "").split()[:1]
    if not any(shutil.which(name) for name in (*named, "c++", "g++", "clang++")):
        raise Problem(f"a C++ compiler is required. {advice(['g++'])}")


def check_ldap_headers() -> None:
    """Check for the headers that python-ldap is compiled against; install them where allowed.

    Raises `Problem`.
    """
    headers = {"libldap2-dev": "ldap.h", "libsasl2-dev": "sasl/sasl.h"}
    folders = [Path("/usr/include"), Path("/usr/local/include"), Path("/opt/homebrew/include")]
    missing = [
        package
        for package, header in headers.items()
        if not any((folder / header).exists() for folder in folders)
    ]
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        missing.append("python3-dev")
    if missing:
        install(missing, "python-ldap is compiled against OpenLDAP and Python.")


def advice(packages: Sequence[str]) -> str:
    words = " ".join(packages)
    if shutil.which("apt-get"):
        return f"Run: sudo apt-get install {words}"
    return f"Install the packages that correspond to Debian's {words}."


def may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], reason: str) -> None:
    """Install packages as root on Debian. Elsewhere raise `Problem` with the command to run."""
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
        # Outdated package lists refer to versions that the archive no longer has.
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
    """Return the instruction sets that a build for this machine may use.

    A build for another machine may crash with an illegal instruction.
    """
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
