"""The health of one engine: a state machine with exponential back-off. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chatsite.hosts.status import EngineState

CHECK_SECONDS: Final = 10.0
BACKOFF_SECONDS: Final = 1.0
_BACKOFF_MOST_SECONDS: Final = 60.0
# Checks that fail in a row before running answers are given up: one may fail under load.
_LOST_AFTER: Final = 3


@dataclass
class Health:
    """Times are seconds of any one clock, in which ``due_at`` is the next check.

    ``state`` is ``checking`` until the first check and after an answer broke off, and ``down``
    after a failed check, since ``down_since``. Requests are sent while it is ``ready``.
    """

    state: EngineState = "checking"
    error: str = ""
    due_at: float = 0.0
    failures: int = 0
    down_since: float | None = None

    @property
    def lost(self) -> bool:
        """Return whether answers that run there should be given up."""
        return self.failures >= _LOST_AFTER

    def succeeded(self, now: float) -> bool:
        """Note a successful check; return whether the engine was down."""
        recovered = self.state == "down"
        self.state, self.error, self.failures = "ready", "", 0
        self.down_since = None
        self.due_at = now + CHECK_SECONDS
        return recovered

    def failed(self, error: str, now: float) -> bool:
        """Note a failed check or connection; return whether the engine was not down before."""
        fresh = self.state != "down"
        self.failures += 1
        self.state, self.error = "down", error
        if self.down_since is None:
            self.down_since = now
        pause = BACKOFF_SECONDS * 2 ** min(self.failures - 1, 16)
        self.due_at = now + min(_BACKOFF_MOST_SECONDS, pause)
        return fresh

    def suspect(self, now: float) -> None:
        """Send no request before the next check, which is due now: an answer broke off."""
        if self.state == "ready":
            self.state = "checking"
            self.due_at = now

    def check_now(self, now: float) -> None:
        self.due_at = now

    def down_for(self, now: float) -> float:
        """Return for how many seconds the engine has been down; 0 if it is not."""
        return 0.0 if self.down_since is None else now - self.down_since
