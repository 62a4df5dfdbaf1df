"""The first computation of a loaded model."""

from __future__ import annotations

from collections.abc import Callable

from chatsite.engine.backend import Backend, Chunk, ComputeError, Decoded, Piece
from chatsite.engine.speed import SpeedMeter


def warm_up(backend: Backend, speed: SpeedMeter, clock: Callable[[], float]) -> None:
    """Computes a little, so that the first request finds weights in memory and speeds known, and
    a build that can't compute fails before it is called loaded. Raises RuntimeError."""
    tokens = min(48, backend.facts.context // 4)
    sample = backend.vocabulary.tokenize("The quick brown fox. " * 20, special=False)
    if not backend.facts.generates:
        try:
            backend.embedder.compute([Piece(0, 0, sample[:tokens], last=True)])
        except ComputeError as error:
            raise RuntimeError(f"the first computation failed: {error}") from error
        return
    for start, count, sequences in ((0, tokens, 0), (tokens, tokens, 0), (tokens * 2, 1, 1)):
        began = clock()
        chunk = Chunk(0, start, sample[:count], 1)
        if (outcome := backend.decode([chunk])) is not Decoded.OK:
            raise RuntimeError(f"the first computation failed: {outcome.value}")
        if start:
            prefilled = 0 if sequences else len(chunk.tokens)
            speed.record(sequences, prefilled, (clock() - began) * 1e3)
    backend.memory.clear(0)
