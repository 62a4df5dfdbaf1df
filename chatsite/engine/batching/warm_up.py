"""The first computation of a loaded model."""

from __future__ import annotations

from collections.abc import Callable

from chatsite.engine.batching.speed import SpeedMeter
from chatsite.engine.contract.backend import Backend, Chunk, ComputeError, Decoded, InputChunk

# Row counts of steps from which the cost of drafts is learned, unless the model is slow.
_ROWS = (1, 2, 5, 17)
_LONG_MS = 100.0


def warm_up(backend: Backend, speed: SpeedMeter, clock: Callable[[], float]) -> None:
    """Compute a few steps, so that weights are in memory and speeds known for the first request.

    Raise RuntimeError if the build can't compute, before the model is reported as loaded.
    """
    tokens = min(48, backend.facts.context // 4)
    sample = backend.vocabulary.tokenize("The quick brown fox. " * 20, special=False)
    if not backend.facts.generates:
        try:
            backend.embedder.compute([InputChunk(0, 0, sample[:tokens], last=True)])
        except ComputeError as error:
            raise RuntimeError(f"the first computation failed: {error}") from error
        return

    def compute(start: int, count: int, outputs: int) -> float:
        began = clock()
        if (
            outcome := backend.decode([Chunk(0, start, sample[:count], outputs)])
        ) is not Decoded.OK:
            raise RuntimeError(f"the first computation failed: {outcome.value}")
        return (clock() - began) * 1e3

    compute(0, tokens, 1)
    speed.record(0, tokens, compute(tokens, tokens, 1))
    start = 2 * tokens
    for rows in _ROWS:
        elapsed_ms = compute(start, rows, rows)
        speed.record(1, 0, elapsed_ms, drafted=rows - 1)
        start += rows
        if elapsed_ms > _LONG_MS or start + rows > 3 * tokens:
            break
    backend.memory.clear(0)
