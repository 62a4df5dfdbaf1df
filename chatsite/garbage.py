"""Garbage collection in long-running processes."""

from __future__ import annotations

import gc
from typing import Final

# Allocations between collections of the youngest generation; every request exceeds Python's 700.
_YOUNG: Final = 10_000


def freeze_startup_objects() -> None:
    """Exclude all current objects from garbage collection; call it after start-up.

    A full collection then does not scan all of Django, which takes a tenth of a second during
    which no token is sent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
