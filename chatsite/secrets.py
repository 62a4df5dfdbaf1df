"""Secrets in the data folder, readable by their owner only, and encrypted ones in the database."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken


class UnreadableSecret(Exception):
    """A secret was encrypted with another secret key, or is damaged."""


def encrypt(text: str, secret_key: str, purpose: str) -> str:
    """Return ``text`` encrypted with a key derived from ``secret_key`` and ``purpose``."""
    return _cipher(secret_key, purpose).encrypt(text.encode()).decode()


def decrypt(encrypted: str, secret_key: str, purpose: str) -> str:
    """Return what `encrypt` was given. Raises `UnreadableSecret`."""
    try:
        return _cipher(secret_key, purpose).decrypt(encrypted.encode()).decode()
    except InvalidToken as error:
        raise UnreadableSecret from error


def _cipher(secret_key: str, purpose: str) -> Fernet:
    key = hashlib.sha256(purpose.encode() + secret_key.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def stored_key(path: Path, size: int = 64) -> str:
    """Return the key in ``path``; generate one of ``size`` random bytes with mode 0600 if needed.

    The text is URL-safe. Concurrent calls are safe: the key is written to a temporary file and
    linked into place, which succeeds only once; all callers then read the same key.
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
