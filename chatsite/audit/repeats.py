"""Limits on events that a client can cause as often as it likes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

_KEYS_MOST: Final = 10_000


class Repeats:
    """Lets one event per key through in ``seconds`` and counts the others. Thread-safe."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def take(self, key: Hashable) -> int | None:
        """Return how many events of ``key`` were left out since the last one; None to omit it."""
        now = time.monotonic()
        with self._lock:
            last, omitted = self._known.get(key, (float("-inf"), 0))
            if now - last < self.seconds:
                self._known[key] = (last, omitted + 1)
                return None
            self._known[key] = (now, 0)
            self._known.move_to_end(key)
            if len(self._known) > _KEYS_MOST:
                self._known.popitem(last=False)
            return omitted
