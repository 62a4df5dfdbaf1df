"""What a step costs, learnt from the steps: the scheduler's `Speed`."""

from __future__ import annotations

# Weight of the newest step. Speed falls with the depth of the context, so old steps fade soon.
_WEIGHT = 0.2
# Before anything was measured: slow enough to keep the first chunks small.
_FIRST_TOKENS_PER_MS = 0.1


class SpeedMeter:
    def __init__(self) -> None:
        self._decode: dict[int, float] = {}  # sequences -> milliseconds
        self._prefill_tokens_per_ms: float | None = None

    def decode_ms(self, sequences: int) -> float:
        """Cost of a step that decodes ``sequences``; of the next known number if it never did."""
        if not sequences or not self._decode:
            return 0.0
        if sequences in self._decode:
            return self._decode[sequences]
        return self._decode[min(self._decode, key=lambda known: abs(known - sequences))]

    @property
    def prefill_tokens_per_ms(self) -> float:
        return self._prefill_tokens_per_ms or _FIRST_TOKENS_PER_MS

    def record(self, sequences: int, prefilled: int, elapsed_ms: float) -> None:
        """One computed step. In a mixed step the decode's share is taken as known."""
        if not prefilled:
            known = self._decode.get(sequences, elapsed_ms)
            self._decode[sequences] = known + _WEIGHT * (elapsed_ms - known)
            return
        # Clocks tick; at least a tenth of the step is the prefill's.
        share = max(elapsed_ms - self.decode_ms(sequences), elapsed_ms / 10, 1e-3)
        rate = prefilled / share
        known = self._prefill_tokens_per_ms or rate
        self._prefill_tokens_per_ms = known + _WEIGHT * (rate - known)
