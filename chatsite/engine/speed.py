"""What a step costs, learnt from the steps: the scheduler's `Speed`."""

from __future__ import annotations

from chatsite.engine.speculation import Costs

# Weight of the newest step. Speed falls with the depth of the context, so old steps fade soon.
_WEIGHT = 0.2
_FADE = 0.02
# Before anything was measured: slow enough to keep the first chunks small.
_FIRST_TOKENS_PER_MS = 0.1


class SpeedMeter:
    def __init__(self) -> None:
        self._decode: dict[int, float] = {}  # sequences -> milliseconds
        self._prefill_tokens_per_ms: float | None = None
        self._row_ms: float | None = None  # one guessed token more in a step

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

    @property
    def row_ms(self) -> float:
        return self._row_ms or 1 / self.prefill_tokens_per_ms

    def costs(self, sequences: int) -> Costs:
        """A second pass costs what a step of one sequence does beyond its row."""
        pass_ms = max(0.0, self.decode_ms(1) - self.row_ms)
        return Costs(self.decode_ms(sequences), self.row_ms, pass_ms)

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
        known = self.decode_ms(sequences)
        # Clocks tick; at least a tenth of the step is the share that is learnt.
        least = max(elapsed_ms / 10, 1e-3)
        if prefilled:
            rate = prefilled / max(elapsed_ms - known - drafted * self.row_ms, least)
            old = self._prefill_tokens_per_ms or rate
            self._prefill_tokens_per_ms = old + _WEIGHT * (rate - old)
        elif drafted:
            extra = elapsed_ms - known - (passes - 1) * self.costs(sequences).pass_ms
            row = max(extra, least) / drafted
            self._row_ms = self.row_ms + _WEIGHT * (row - self.row_ms)
        else:
            # One dear measurement must not end all guessing: it fades while nobody guesses.
            self._row_ms = self.row_ms + _FADE * (1 / self.prefill_tokens_per_ms - self.row_ms)
            old = self._decode.get(sequences, elapsed_ms)
            self._decode[sequences] = old + _WEIGHT * (elapsed_ms - old)
