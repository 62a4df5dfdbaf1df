"""Exit with 0 if the parts of this container work, else with 1 and the reason.

With a model host beside it, the web server must answer that a chat would work; without, that it
runs. Other parts must have shown a sign of life within a minute. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

_SECONDS = 8
_SILENT_SECONDS = 60
_BEATS = {"inference": "inference.alive", "worker": "celery.alive"}
# A service that is unavailable only because another container is missing still runs.
_UNAVAILABLE = 503


def web(*, alone: bool) -> str | None:
    """Return what is wrong with the web server, or None."""
    port = os.environ.get("CHATSITE_PORT", "8000")
    prefix = os.environ.get("CHATSITE_PATH_PREFIX", "").rstrip("/")
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{prefix}/healthz", timeout=_SECONDS
        ) as response:
            response.read()
    except urllib.error.HTTPError as error:
        if alone and error.code == _UNAVAILABLE:
            return None
        return f"/healthz: {error.code} {error.read(500).decode(errors='replace')}"
    except OSError as error:
        return f"/healthz: {error}"
    return None


def beating(name: str) -> str | None:
    """Return what is wrong with a part that writes heartbeats, or None."""
    path = Path(os.environ["CHATSITE_DATA_DIR"], "run", name)
    try:
        silent = time.time() - path.stat().st_mtime
    except OSError as error:
        return f"{path}: {error.strerror}"
    return f"{name}: silent for {silent:.0f} s" if silent > _SILENT_SECONDS else None


def main() -> None:
    named = os.environ.get("PARTS", "")
    parts = set(named.replace(",", " ").split()) or {"web", "worker", "inference"}
    found = [beating(name) for part, name in _BEATS.items() if part in parts]
    if "web" in parts:
        found.append(web(alone="inference" not in parts))
    wrong = [text for text in found if text]
    if wrong:
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
