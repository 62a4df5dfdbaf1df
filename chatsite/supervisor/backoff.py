"""The restart delay of a process that has ended.

No clock: the caller passes the lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Backoff:
    """Delays of ``first`` seconds after the first death, doubled after each further one.

    They are limited to ``ceiling``; a process that lived ``healthy_after`` seconds resets them.
    """

    first: float = 0.2
    ceiling: float = 30.0
    healthy_after: float = 60.0
    deaths: int = 0

    def after(self, lived: float) -> tuple[float, Backoff]:
        """Return the delay in seconds, and the state for the next death."""
        deaths = 1 if lived >= self.healthy_after else self.deaths + 1
        # The exponent is bounded, since a float overflows after a thousand deaths.
        delay = min(self.ceiling, self.first * 2.0 ** min(deaths - 1, 32))
        return delay, replace(self, deaths=deaths)
