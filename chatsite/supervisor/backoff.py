"""When to start a process again that has ended.

No clock here: the caller says how long it lived.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Backoff:
    """Waits ``first`` seconds after the first death, twice as long after each further one, at
    most ``ceiling``; a process that lived ``healthy_after`` seconds begins anew."""

    first: float = 0.2
    ceiling: float = 30.0
    healthy_after: float = 60.0
    deaths: int = 0

    def after(self, lived: float) -> tuple[float, Backoff]:
        """Returns the seconds to wait, and the state to ask next time."""
        deaths = 1 if lived >= self.healthy_after else self.deaths + 1
        # The exponent is bounded, since a float overflows after a thousand deaths.
        delay = min(self.ceiling, self.first * 2.0 ** min(deaths - 1, 32))
        return delay, replace(self, deaths=deaths)
