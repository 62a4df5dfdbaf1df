"""Password hashing with argon2id, with bounded memory and concurrency.

A sync view has a thread of its own, so a burst of sign-ins would otherwise hash as many passwords
at the same time: each takes 32 MiB and a processor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.contrib.auth import hashers

from chatsite.errors import ServerBusy

# Hashes at the same time in one process, requests that may wait for one, and for how long.
CONCURRENT: Final = max(2, min(4, os.cpu_count() or 1))
WAITING_MAX: Final = 64
WAIT_SECONDS: Final = 10.0

_slots = threading.BoundedSemaphore(CONCURRENT)
_lock = threading.Lock()
_waiting = 0


@contextmanager
def slot() -> Iterator[None]:
    """Hold one of the slots. Raises `ServerBusy` if too many wait, or none is free in time."""
    global _waiting  # noqa: PLW0603  (a count of this process, guarded by the lock)
    with _lock:
        if _waiting >= WAITING_MAX:
            raise ServerBusy
        _waiting += 1
    try:
        acquired = _slots.acquire(timeout=WAIT_SECONDS)
    finally:
        with _lock:
            _waiting -= 1
    if not acquired:
        raise ServerBusy
    try:
        yield
    finally:
        _slots.release()


class Argon2Hasher(hashers.Argon2PasswordHasher):
    """Argon2id with 32 MiB, 3 passes and 1 lane: above OWASP's minimum, about 0.1 s."""

    time_cost = 3
    memory_cost = 32 * 1024
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        with slot():
            return str(super().encode(password, salt))

    def verify(self, password: str, encoded: str) -> bool:
        with slot():
            return bool(super().verify(password, encoded))


class BoundedPBKDF2Hasher(hashers.PBKDF2PasswordHasher):
    """Django's former default, for hashes that have not been upgraded yet."""

    def verify(self, password: str, encoded: str) -> bool:
        with slot():
            return bool(super().verify(password, encoded))
