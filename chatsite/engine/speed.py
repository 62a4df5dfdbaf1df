"""What steps cost, learnt from the steps: the scheduler's `Speed`, and `speculation.Costs`."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

# Weight of the newest step. Speed falls with the depth of the context, so old steps fade soon.
_WEIGHT = 0.2
# Before anything was measured: slow enough to keep the first chunks small.
_FIRST_TOKENS_PER_MS = 0.1
# A number of rows that was not computed for so many steps is forgotten: one dear measurement must
# not end all guessing.
_REMEMBERED_STEPS = 1000


class SpeedMeter:
    """Milliseconds by rows that one pass computes, with an output each: few of them cost nearly a
    pass each, until the library's kernels take many at once, and where that is differs by weights
    and machine. So it is a curve through what was measured."""

    def __init__(self) -> None:
        self._rows: dict[int, float] = {}
        # Numbers of rows in order, and the least that as many or more took: some steps are slow
        # for reasons of their own.
        self._known: list[int] = []
        self._least_ms: list[float] = []
        self._seen: dict[int, int] = {}  # by rows, the step that computed them last
        self._steps = 0
        self._prefill_tokens_per_ms: float | None = None

    def decode_ms(self, sequences: int) -> float:
        """Cost of a step that decodes ``sequences`` and does nothing else."""
        return self.rows_ms(sequences)

    def rows_ms(self, rows: int) -> float:
        """0 before anything was measured."""
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
        """One computed step with ``drafted`` guessed tokens. In a mixed step the shares of what
        is known are taken as known."""
        self._steps += 1
        if prefilled:
            known = self.rows_ms(sequences) + drafted / self.prefill_tokens_per_ms
            rate = prefilled / max(elapsed_ms - known, _least(elapsed_ms))
            old = self._prefill_tokens_per_ms or rate
            self._prefill_tokens_per_ms = old + _WEIGHT * (rate - old)
        elif passes == 1:
            self._learn(sequences + drafted, elapsed_ms)
        elif passes == 2:  # the second one computes the guesses
            self._learn(drafted, max(elapsed_ms - self.rows_ms(sequences), _least(elapsed_ms)))

    def _learn(self, rows: int, elapsed_ms: float) -> None:
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
    """Clocks tick; at least a tenth of the step is the share that is learnt."""
    return max(elapsed_ms / 10, 1e-3)
