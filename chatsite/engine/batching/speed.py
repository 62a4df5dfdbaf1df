"""The cost of steps, learned from steps; implements `scheduler.Speed` and `speculation.Costs`."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

# Weight of the newest step. Speed falls as the context fills, so old steps must fade quickly.
_WEIGHT = 0.2
# Before the first measurement: slow enough to keep the first chunks small.
_FIRST_TOKENS_PER_MS = 0.1
# Steps after which a row count that was not computed again is forgotten: one expensive measurement
# must not end speculation for good.
_REMEMBERED_STEPS = 1000


class SpeedMeter:
    """The time of one pass in milliseconds by number of rows, with an output each.

    A few rows cost nearly a pass each, until the library's kernels take many together; where that
    starts depends on weights and machine. So the cost is a curve through the measurements.
    """

    def __init__(self) -> None:
        self._rows: dict[int, float] = {}
        # Row counts in ascending order, and the minimum time of that many or more: some steps are
        # slow for unrelated reasons.
        self._known: list[int] = []
        self._least_ms: list[float] = []
        self._seen: dict[int, int] = {}  # row count to the last step that computed it
        self._steps = 0
        self._prefill_tokens_per_ms: float | None = None

    def decode_ms(self, sequences: int) -> float:
        """Return the cost of a step that decodes ``sequences`` and does nothing else."""
        return self.rows_ms(sequences)

    def rows_ms(self, rows: int) -> float:
        """Return the milliseconds of a pass over ``rows`` rows; 0 before the first measurement."""
        if not rows or not self._known:
            return 0.0
        at = bisect_left(self._known, rows)
        if at == len(self._known):
            return self._least_ms[-1] + (rows - self._known[-1]) / self.prefill_tokens_per_ms
        above, above_ms = self._known[at], self._least_ms[at]
        if at == 0 or above == rows:
            return above_ms
        below, below_ms = self._known[at - 1], self._least_ms[at - 1]
        return below_ms + (above_ms - below_ms) * (rows - below) / (above - below)

    @property
    def prefill_tokens_per_ms(self) -> float:
        return self._prefill_tokens_per_ms or _FIRST_TOKENS_PER_MS

    def record(
        self,
        sequences: int,
        prefilled: int,
        elapsed_ms: float,
        *,
        drafted: int = 0,
        passes: int = 1,
    ) -> None:
        """Record one step with ``drafted`` drafted tokens.

        In a mixed step, the time of the parts with a known cost is subtracted.
        """
        self._steps += 1
        if prefilled:
            known = self.rows_ms(sequences) + drafted / self.prefill_tokens_per_ms
            rate = prefilled / max(elapsed_ms - known, _least(elapsed_ms))
            old = self._prefill_tokens_per_ms or rate
            self._prefill_tokens_per_ms = old + _WEIGHT * (rate - old)
        elif passes == 1:
            self.learn(sequences + drafted, elapsed_ms)
        elif passes == 2:  # the second one computes the drafts
            self.learn(drafted, max(elapsed_ms - self.rows_ms(sequences), _least(elapsed_ms)))

    def learn(self, rows: int, elapsed_ms: float) -> None:
        old = self._rows.get(rows, elapsed_ms)
        self._rows[rows] = old + _WEIGHT * (elapsed_ms - old)
        self._seen[rows] = self._steps
        for known, seen in tuple(self._seen.items()):
            if self._steps - seen > _REMEMBERED_STEPS:
                del self._rows[known], self._seen[known]
        self._known = sorted(self._rows)
        falling = [self._rows[known] for known in reversed(self._known)]
        self._least_ms = list(accumulate(falling, min))[::-1]


def _least(elapsed_ms: float) -> float:
    """Return the minimum time to learn: a tenth of the step, against coarse clocks."""
    return max(elapsed_ms / 10, 1e-3)
