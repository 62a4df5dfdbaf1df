"""Finds a redis-server that is new enough: the system's, else the one that set-up fetched.

Only the standard library: set-up asks here too, before anything is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MINIMUM_MAJOR = 7
FETCHED = Path(__file__).resolve().parents[2] / "build" / "redis" / "redis-server"
_PROGRAMS = ("valkey-server", "redis-server")
# "Redis server v=7.0.15 sha=…", "Valkey server v=8.1.0 sha=…", "Server v=…".
_VERSION = re.compile(r"\bv=(\d+(?:\.\d+)*)")


class NoRedis(Exception):
    """No usable server; the text says what was found and what to do."""


@dataclass(frozen=True)
class RedisBinary:
    path: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path} {'.'.join(map(str, self.version))}"


def parse_version(output: str) -> tuple[int, ...] | None:
    """Takes what ``--version`` prints; None when it names no version."""
    found = _VERSION.search(output)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def inspect(path: str) -> RedisBinary | None:
    """Runs ``path --version``; None when that fails, as with a binary of another platform."""
    try:
        result = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = parse_version(result.stdout)
    return RedisBinary(path, version) if version else None


def find(fetched: Path = FETCHED) -> RedisBinary:
    """Raises `NoRedis` when there is none of at least version ``MINIMUM_MAJOR``."""
    candidates = [path for name in _PROGRAMS if (path := shutil.which(name))]
    candidates += [str(fetched)] if fetched.is_file() else []
    too_old = []
    for path in candidates:
        binary = inspect(path)
        if binary and binary.version[0] >= MINIMUM_MAJOR:
            return binary
        too_old.append(str(binary) if binary else f"{path}, which does not run")
    seen = f" Found only {'; '.join(too_old)}." if too_old else ""
    raise NoRedis(
        f"Redis or Valkey {MINIMUM_MAJOR} or newer is needed.{seen} Run `make setup`, install "
        "valkey-server or redis-server, or set CHATSITE_REDIS_URL to a server of yours."
    )
