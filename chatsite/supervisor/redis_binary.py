"""Find a supported server: the system's Valkey or Redis, else the one that set-up fetched.

Standard library only: set-up uses it before anything is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MINIMUM_MAJOR = 7
FETCHED = Path(__file__).resolve().parents[2] / "build" / "redis" / "valkey-server"
_PROGRAMS = ("valkey-server", "redis-server")
# "Redis server v=7.0.15 sha=…", "Valkey server v=8.1.0 sha=…", "Server v=…".
_VERSION = re.compile(r"\bv=(\d+(?:\.\d+)*)")


class NoRedis(Exception):
    """No usable server; the message says what was found and what to do."""


@dataclass(frozen=True)
class RedisBinary:
    path: str
    version: tuple[int, ...]
    is_valkey: bool = False

    def __str__(self) -> str:
        return f"{self.path} {'.'.join(map(str, self.version))}"


def parse_version(output: str) -> tuple[int, ...] | None:
    """Parse the output of ``--version``; None if it has no version."""
    found = _VERSION.search(output)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def inspect(path: str) -> RedisBinary | None:
    """Run ``path --version``; None if that fails, as for a binary of another platform."""
    try:
        result = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = parse_version(result.stdout)
    return RedisBinary(path, version, "valkey" in result.stdout.lower()) if version else None


def find(fetched: Path = FETCHED) -> RedisBinary:
    """Return the server. Raises `NoRedis` if none has at least version ``MINIMUM_MAJOR``."""
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
        f"Redis or Valkey {MINIMUM_MAJOR} or newer is required.{seen} Run `make setup`, install "
        "valkey-server or redis-server, or set CHATSITE_REDIS_URL to your own server."
    )
