"""What one `Tuning` does on this host: run in a child that may die of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from chatsite.engine.backend import Backend, Chunk, ComputeError, Decoded, Piece
from chatsite.engine.messages import Load
from chatsite.engine.offload import PROCESSOR, Offload
from chatsite.engine.tuning import Tuning

SEQUENCES: Final = 8
DEPTH: Final = 512  # tokens of context that decoding is measured at
_CHUNK: Final = 128
_STEPS: Final = 16
_BULK_TIMES: Final = 5
_MIXED_STEPS: Final = 6
_MIXED_CHUNK: Final = 32
_PREFILL_SECONDS: Final = 6.0  # slow hosts measure at less depth rather than for minutes
_DECODE_SECONDS: Final = 4.0


class Opener(Protocol):
    def __call__(self, load: Load, on_progress: Callable[[float], None], /) -> Backend: ...


class Measured(msgspec.Struct, frozen=True):
    """Milliseconds per prompt token, and per answer token behind ``depth`` tokens of context: the
    mean of one sequence alone and of `SEQUENCES` that decode at once, since some settings that
    are fast for many are slow for one."""

    prefill_ms: float
    decode_ms: float
    depth: int


def run(
    open_backend: Opener,
    path: str,
    tuning: Tuning,
    depth: int = DEPTH,
    clock: Callable[[], float] = time.perf_counter,
    *,
    offload: Offload = PROCESSOR,
    bulk: int = 0,
) -> Measured:
    """Prefills one sequence, copies it to the others, decodes them together; or with ``bulk``
    only prefills that many tokens at once. Raises `LoadError`, or RuntimeError where the library
    refuses to compute."""
    load = Load(
        "probe",
        path,
        tuning,
        context=max(2 * DEPTH, bulk + _STEPS),
        slots=SEQUENCES,
        step_target_ms=1000,
        offload=offload,
    )
    backend = open_backend(load, lambda progress: None)
    if bulk:
        return _in_bulk(backend, min(bulk, backend.facts.context - 1), clock)
    depth = min(depth, backend.facts.context - _STEPS - 2)
    tokens = _filler(backend, depth)

    def decode(chunks: list[Chunk]) -> float:
        began = clock()
        if (outcome := backend.decode(chunks)) is not Decoded.OK:
            raise RuntimeError(outcome.value)
        return clock() - began

    if not backend.facts.generates:
        return _vectors(backend, tokens[:_CHUNK], clock)
    # The first computation reads the weights from disk: not counted.
    decode([Chunk(0, 0, tokens[:_CHUNK], 1)])
    backend.memory.clear(0)
    done = 0
    chunks: list[float] = []  # seconds per token
    until = clock() + _PREFILL_SECONDS
    while done < depth and clock() < until:
        chunk = tokens[done : done + _CHUNK]
        chunks.append(decode([Chunk(0, done, chunk, 1)]) / len(chunk))
        done += len(chunk)
    for slot in range(1, SEQUENCES):
        backend.memory.copy(0, slot)
    lengths = [done] * SEQUENCES

    def one_more(sequences: int) -> list[Chunk]:
        chunks = [Chunk(slot, lengths[slot], tokens[:1], 1) for slot in range(sequences)]
        for slot in range(sequences):
            lengths[slot] += 1
        return chunks

    def decoding(sequences: int) -> list[float]:
        steps: list[float] = []
        while len(steps) < _STEPS and sum(steps) < _DECODE_SECONDS:
            steps.append(decode(one_more(sequences)))
        return steps

    alone, steps = decoding(1), decoding(SEQUENCES)
    # As in use, where a prompt is prefilled beside others who write: some settings that are
    # fast at either are slow at both.
    backend.memory.clear(SEQUENCES - 1)
    beside = _typical(steps) * (SEQUENCES - 1) / SEQUENCES
    for number in range(min(_MIXED_STEPS, done // _MIXED_CHUNK)):
        start = number * _MIXED_CHUNK
        added = Chunk(SEQUENCES - 1, start, tokens[start : start + _MIXED_CHUNK], 1)
        seconds = decode([*one_more(SEQUENCES - 1), added])
        chunks.append(max(seconds - beside, seconds / 10) / _MIXED_CHUNK)
    backend.close()
    mixed = chunks[-_MIXED_STEPS:]
    return Measured(
        prefill_ms=_typical(mixed) * 1e3,
        decode_ms=(_typical(alone) + _typical(steps) / SEQUENCES) / 2 * 1e3,
        depth=done,
    )


def _in_bulk(backend: Backend, count: int, clock: Callable[[], float]) -> Measured:
    """As the engine prefills a long prompt that has a step for itself."""
    tokens = _filler(backend, count)
    seconds = []
    for _ in range(_BULK_TIMES):
        backend.memory.clear(0)
        began = clock()
        for start in range(0, count, backend.facts.max_rows):
            part = tokens[start : start + backend.facts.max_rows]
            if (outcome := backend.decode([Chunk(0, start, part, 1)])) is not Decoded.OK:
                raise RuntimeError(outcome.value)
        seconds.append((clock() - began) / count)
    backend.close()
    # The first computation reads the weights from disk: not counted.
    return Measured(prefill_ms=_typical(seconds[1:]) * 1e3, decode_ms=0.0, depth=count)


def _vectors(backend: Backend, tokens: list[int], clock: Callable[[], float]) -> Measured:
    """Of a model that gives only vectors, how fast it reads is all there is."""
    seconds = []
    for _ in range(5):
        began = clock()
        try:
            backend.embedder.compute([Piece(0, 0, tokens, last=True)])
        except ComputeError as error:
            raise RuntimeError(str(error)) from error
        seconds.append((clock() - began) / len(tokens))
    backend.close()
    # The first computation reads the weights from disk: not counted.
    return Measured(prefill_ms=_typical(seconds[1:]) * 1e3, decode_ms=0.0, depth=len(tokens))


def _typical(seconds: list[float]) -> float:
    """The lower quartile: other processes of the host make some steps slow, none fast."""
    return sorted(seconds)[len(seconds) // 4]


def _filler(backend: Backend, count: int) -> list[int]:
    words = " ".join(f"item {number} of the list" for number in range(count))
    return backend.vocabulary.tokenize(words, special=False)[:count]
