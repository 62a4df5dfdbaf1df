"""Stamps of completed steps: digests of their inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def digest(parts: Iterable[str | Path]) -> str:
    """Return the SHA-256 of texts and files.

    A folder includes all files below it, by name and content, except caches that tools write there.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(b"t" + part.encode() + b"\0")
        else:
            for path in _files(part):
                total.update(b"f" + str(path.relative_to(part.parent)).encode() + b"\0")
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(
        found
        for found in path.rglob("*")
        if found.is_file() and not {"__pycache__", "node_modules"} & set(found.parts)
    )


class Stamps:
    """Digests by step name, in the JSON file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _all(self) -> dict[str, str]:
        try:
            stamps = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return stamps if isinstance(stamps, dict) else {}

    def holds(self, step: str, value: str) -> bool:
        return self._all().get(step) == value

    def get(self, step: str) -> str | None:
        return self._all().get(step)

    def set(self, step: str, value: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._all() | {step: value}, indent=1))
        fresh.replace(self._path)
