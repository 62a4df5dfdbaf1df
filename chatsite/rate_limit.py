"""Rate limits."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimiter:
    """A token bucket of size ``burst`` that refills by ``per_second``; ``clock`` in seconds."""

    def __init__(
        self, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._tokens, self._filled = burst, clock()

    def take(self) -> bool:
        """Take a token; False if the bucket is empty."""
        now = self._clock()
        grown = self._tokens + (now - self._filled) * self._per_second
        self._tokens, self._filled = min(self._burst, grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
