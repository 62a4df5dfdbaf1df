"""What the steps of an engine cost: measured, or estimated (`machines.py`)."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from chatsite.capacity.planner.errors import require


@dataclass(frozen=True)
class EngineSpeed:
    """The cost of steps; implements `engine.batching.scheduler.Speed`.

    ``decode`` are pairs of (sequences, milliseconds of one step that decodes one token of each),
    with ascending sequences; between them the cost is linear, above them the slope of the last two
    continues. ``context_ms`` is added per 1,000 tokens of context that a step attends to.
    ``slots`` sequences run at the same time, ``max_rows`` tokens fit into a step. ``cache_tokens``
    of conversations without a slot are kept. ``source`` says where the figures come from.
    """

    prefill_tokens_per_s: float
    decode: tuple[tuple[int, float], ...]
    slots: int
    context: int = 8192
    max_rows: int = 512
    context_ms: float = 0.0
    cache_tokens: int = 0
    source: str = "given"
    estimate: bool = False

    def __post_init__(self) -> None:
        rate = self.prefill_tokens_per_s
        require(math.isfinite(rate) and rate > 0, "prefill must be above 0 tokens/s")
        require(bool(self.decode), "decode needs the step time of at least one batch size")
        counts = [count for count, _ in self.decode]
        require(
            counts[0] >= 1 and counts == sorted(set(counts)),
            "decode: batch sizes must be whole numbers from 1, each once, in ascending order",
        )
        times = [ms for _, ms in self.decode]
        require(
            all(math.isfinite(ms) and ms > 0 for ms in times) and times == sorted(times),
            "decode: step times must be above 0 ms and not fall with the batch size",
        )
        require(1 <= self.slots <= 4096, "slots must be from 1 to 4096")
        require(self.context >= 64, "context must be at least 64 tokens")
        require(self.max_rows >= 16, "a step must hold at least 16 tokens")
        require(
            self.context_ms >= 0 and self.cache_tokens >= 0, "costs and caches can't be below 0"
        )

    def decode_ms(self, sequences: int) -> float:
        """Return the milliseconds of a step that decodes ``sequences``; 0 for none."""
        if not sequences:
            return 0.0
        counts = [count for count, _ in self.decode]
        at = bisect_left(counts, sequences)
        if (at < len(counts) and counts[at] == sequences) or at == 0:
            return self.decode[at][1]
        if len(counts) == 1:
            # A further row costs at most what a row of a prompt costs.
            return self.decode[0][1] + (sequences - counts[0]) / self.prefill_tokens_per_ms
        low, high = (at - 1, at) if at < len(counts) else (at - 2, at - 1)
        (below, below_ms), (above, above_ms) = self.decode[low], self.decode[high]
        return below_ms + (above_ms - below_ms) * (sequences - below) / (above - below)

    @property
    def prefill_tokens_per_ms(self) -> float:
        return self.prefill_tokens_per_s / 1000

    def step_ms(self, decoding: int, prefilled: int, context: int) -> float:
        """Return the milliseconds of a step.

        It decodes ``decoding`` sequences that hold ``context`` tokens together, and computes
        ``prefilled`` tokens of prompts. Every step reads the weights once.
        """
        prefill = prefilled / self.prefill_tokens_per_ms
        attended = self.context_ms * context / 1000
        if not decoding:
            return max(prefill, self.decode[0][1])
        return self.decode_ms(decoding) + attended + prefill


def from_probe(
    prefill_ms: float, decode_ms: float, together: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return prefill tokens/s and step times from what the tuning of a host measured.

    ``prefill_ms`` is per prompt token. ``decode_ms`` is per answer token, the mean of one sequence
    alone and of ``together`` at once (`engine.tuning.probe.Measured`). Each further sequence is
    taken to cost a row of prefill, from which both step times follow.
    """
    require(prefill_ms > 0 and decode_ms > 0 and together >= 1, "nothing was measured")
    row = prefill_ms
    alone = (2 * decode_ms - (together - 1) * row / together) / (1 + 1 / together)
    # Where rows are cheaper than assumed, the mean is all that is known.
    alone = max(alone, decode_ms)
    return 1000 / prefill_ms, ((1, alone), (max(2, together), alone + (together - 1) * row))
