"""Measures one `Tuning` on this host, in a child that may crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from chatsite.engine.contract.backend import Backend, Chunk, ComputeError, Decoded, InputChunk
from chatsite.engine.contract.messages import Load
from chatsite.engine.contract.offload import PROCESSOR, Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning.disturbance import Disturbance

SEQUENCES: Final = 8
# Limits of the context in tokens at which decode is measured: a quarter of a slot, within these.
LEAST_DEPTH: Final = 512
MOST_DEPTH: Final = 2048
_CHUNK: Final = 128
_STEPS: Final = 16
_BULK_TIMES: Final = 5
_MIXED_STEPS: Final = 6
_MIXED_CHUNK: Final = 32
_PREFILL_SECONDS: Final = 6.0  # slow hosts measure with less context instead of for minutes
_DECODE_SECONDS: Final = 4.0


class Opener(Protocol):
    """Opens a backend."""

    def __call__(self, load: Load, on_progress: Callable[[float], None], /) -> Backend: ...


class Measured(msgspec.Struct, frozen=True):
    """Milliseconds per prompt token, and per answer token after ``depth`` tokens of context.

    Decode is the mean of one sequence alone and of up to `SEQUENCES` together, since some settings
    that are fast for many are slow for one. ``disturbed`` is the share of all CPU time that other
    processes took meanwhile.
    """

    prefill_ms: float
    decode_ms: float
    depth: int
    disturbed: float = 0.0


def depth_for(context: int) -> int:
    """Return the assumed length of a conversation in a slot of ``context`` tokens."""
    return min(max(context // 4, LEAST_DEPTH), MOST_DEPTH)


def run(
    open_backend: Opener,
    path: str,
    tuning: Tuning,
    depth: int = LEAST_DEPTH,
    clock: Callable[[], float] = time.perf_counter,
    *,
    context: int = 2 * LEAST_DEPTH,
    slots: int = SEQUENCES,
    offload: Offload = PROCESSOR,
    bulk: int = 0,
) -> Measured:
    """Prefill one sequence, copy it to the others, and decode them together.

    With ``bulk`` only prefill that many tokens at a time. ``context`` and ``slots`` are those that
    the model is served with, so that the probe takes the memory that was admitted for it. Raise
    `LoadError`, or RuntimeError where the library fails to compute.
    """
    load = Load(
        "probe",
        path,
        tuning,
        context=context,
        slots=slots,
        step_target_ms=1000,
        offload=offload,
    )
    backend = open_backend(load, lambda progress: None)
    disturbance = Disturbance()
    if bulk:
        measured = _in_bulk(backend, min(bulk, backend.facts.context - 1), clock)
    elif backend.facts.generates:
        sequences = min(SEQUENCES, backend.facts.slots)
        measured = _in_turns(backend, depth, sequences, clock)
    else:
        measured = _vectors(backend, _filler(backend, _CHUNK), clock)
    backend.close()
    return msgspec.structs.replace(measured, disturbed=round(disturbance.share(), 3))


def _in_turns(backend: Backend, depth: int, sequences: int, clock: Callable[[], float]) -> Measured:
    """Measure ``sequences`` conversations of ``depth`` tokens."""
    depth = min(depth, backend.facts.context - _STEPS - _MIXED_STEPS - 2)
    tokens = _filler(backend, depth)

    def decode(chunks: list[Chunk]) -> float:
        began = clock()
        if (outcome := backend.decode(chunks)) is not Decoded.OK:
            raise RuntimeError(outcome.value)
        return clock() - began

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
    for slot in range(1, sequences):
        backend.memory.copy(0, slot)
    lengths = [done] * sequences

    def one_more(count: int) -> list[Chunk]:
        chunks = [Chunk(slot, lengths[slot], tokens[:1], 1) for slot in range(count)]
        for slot in range(count):
            lengths[slot] += 1
        return chunks

    def decoding(count: int) -> list[float]:
        steps: list[float] = []
        while len(steps) < _STEPS and sum(steps) < _DECODE_SECONDS:
            steps.append(decode(one_more(count)))
        return steps

    alone = decoding(1)
    if sequences == 1:
        return Measured(_typical(chunks) * 1e3, _typical(alone) * 1e3, done)
    steps = decoding(sequences)
    # As in production, where a prompt is prefilled beside running answers: some settings that are
    # fast at either are slow at both.
    backend.memory.clear(sequences - 1)
    beside = _typical(steps) * (sequences - 1) / sequences
    for number in range(min(_MIXED_STEPS, done // _MIXED_CHUNK)):
        start = number * _MIXED_CHUNK
        added = Chunk(sequences - 1, start, tokens[start : start + _MIXED_CHUNK], 1)
        seconds = decode([*one_more(sequences - 1), added])
        chunks.append(max(seconds - beside, seconds / 10) / _MIXED_CHUNK)
    mixed = chunks[-_MIXED_STEPS:]
    return Measured(
        prefill_ms=_typical(mixed) * 1e3,
        decode_ms=(_typical(alone) + _typical(steps) / sequences) / 2 * 1e3,
        depth=done,
    )


def _in_bulk(backend: Backend, count: int, clock: Callable[[], float]) -> Measured:
    """Measure the prefill of a long prompt that has a step to itself."""
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
    # The first computation reads the weights from disk: not counted.
    return Measured(prefill_ms=_typical(seconds[1:]) * 1e3, decode_ms=0.0, depth=count)


def _vectors(backend: Backend, tokens: list[int], clock: Callable[[], float]) -> Measured:
    """Measure prefill of an embedding model, which does nothing else."""
    seconds = []
    for _ in range(5):
        began = clock()
        try:
            backend.embedder.compute([InputChunk(0, 0, tokens, last=True)])
        except ComputeError as error:
            raise RuntimeError(str(error)) from error
        seconds.append((clock() - began) / len(tokens))
    # The first computation reads the weights from disk: not counted.
    return Measured(prefill_ms=_typical(seconds[1:]) * 1e3, decode_ms=0.0, depth=len(tokens))


def _typical(seconds: list[float]) -> float:
    """Return the lower quartile: other processes make some steps slow, and none fast."""
    return sorted(seconds)[len(seconds) // 4]


def _filler(backend: Backend, count: int) -> list[int]:
    words = " ".join(f"item {number} of the list" for number in range(count))
    return backend.vocabulary.tokenize(words, special=False)[:count]
