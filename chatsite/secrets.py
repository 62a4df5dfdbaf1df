"""Secrets in the data folder, made once, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def stored_key(path: Path, size: int = 64) -> str:
    """Returns the key in ``path``, making one of ``size`` random bytes with mode 0600 if there
    is none. The text is safe in an address.

    Two processes or threads may ask at once: the key is written to a file of its own and linked
    into place, which only the first can do; both then read the same one.
    """
    try:
        return path.read_text()
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(size))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text()
