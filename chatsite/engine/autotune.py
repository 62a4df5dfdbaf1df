"""Finds the fastest settings for a model on this host, in children that may die of them.

llama.cpp's defaults are not always right: repacked weights (``use_extra_bufts``) can end the
process with SIGSEGV on virtual CPUs that advertise what they can't do, and flash attention
halves the decode speed of some models on some CPUs. So each candidate is measured by a child of
its own (`probe.py`), with the environment that the engine will have, and whoever dies, hangs or
fails is out.

The rule: the candidate wins that takes the least time for a typical turn, `TURN_PREFILL` new
prompt tokens and `TURN_DECODE` answer tokens, alone and with others at once. A candidate must
beat the plain one (neither switched on) by 3 % to replace it. Three probes do on a small
machine: the plain one, extra buffers, then flash attention on the better of those; only if none
of these lives is the fourth combination tried. With more than `_FEW_THREADS` threads the winner
is tried on fewer, since two logical processors of one core may slow each other down. Sizes of the
micro-batch (ubatch) are tried last, and only where a step may have more tokens than the smallest
of them: otherwise all are the same.

Where a copy of the file with weights of another type may be made (`requantized.py`), that is tried
with the winner's settings, with and without extra buffers. Since it takes memory and disk, it must
be faster by `_COPY_MUST_BEAT`, and a close race with it is run twice; otherwise it is removed.

Nobody waits for it: whoever asks while it goes on is answered with the best that is known by
then, and the rest is measured when the model is idle. The choice is remembered by model and host,
with all that was tried (`tuning_store.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from chatsite.engine import spawn, tuning_store
from chatsite.engine.offload import PROCESSOR, Offload
from chatsite.engine.probe import DEPTH, Measured
from chatsite.engine.requantized import KIND, Copy
from chatsite.engine.tuning import Tuning
from chatsite.engine.tuning_store import UBATCH, Entry, Tried

log = logging.getLogger(__name__)

T = TypeVar("T")

_MUST_BEAT: Final = 0.97
_COPY_MUST_BEAT: Final = 0.9
# A difference of less may be the machine's mood.
_CLOSE: Final = 0.8
_PROBE_SECONDS: Final = 180.0
_FEW_THREADS: Final = 3
_UBATCHES: Final = (128, 1024, 2048)


class TuneProgress(msgspec.Struct, frozen=True):
    """``done`` of about ``total`` probes ended; ``last`` is the newest of them."""

    done: int
    total: int
    last: Tried | None


class NoTuningWorks(Exception):
    """No candidate survived: the model can't run on this host. ``tried`` says what each did."""

    def __init__(self, tried: tuple[Tried, ...]) -> None:
        super().__init__("; ".join(map(str, tried)))
        self.tried = tried


class Tuned(NamedTuple):
    """``complete``: all that is worth it was measured."""

    tuning: Tuning
    complete: bool


class _Hurried(Exception):
    """Somebody waits for the model."""


OnProgress = Callable[[TuneProgress], Awaitable[None] | None]
# A tuning, tokens of context and, or else 0, tokens at once.
Prober = Callable[[Tuning, int, int], Awaitable[Tried]]


def plain(threads: int) -> Tuning:
    """What works wherever anything does."""
    return Tuning(use_extra_bufts=False, flash_attention=False, threads=threads)


async def tune(
    path: Path,
    digest: str,
    threads: int,
    *,
    store: Path,
    name: str = "model",
    offload: Offload = PROCESSOR,
    copy: Copy | None = None,
    step_ms: float = 200.0,
    hurry: asyncio.Event | None = None,
    on_progress: OnProgress | None = None,
    prober: Prober | None = None,
) -> Tuned:
    """The `Tuning` for the model file ``path`` (content ``digest``) with ``threads`` threads and
    steps of ``step_ms``: remembered in the JSON file ``store``, or else measured, in well under a
    minute for a small model and at most `_PROBE_SECONDS` per probe. ``hurry`` ends that with what
    is known by then. ``name`` shows in the list of processes. Raises `NoTuningWorks`. Cancelling
    ends the running probe. With ``copy`` that may be made and chosen; the copy that a `Tuning`
    asks for is there when this returns."""
    known = tuning_store.find(store, digest, threads, offload)
    if known is not None and (remembered := _remembered(known, copy)) is not None:
        return Tuned(remembered, complete=True)
    search = _Search(
        prober or _child_prober(path, name, offload, copy=copy),
        threads,
        name,
        list(known.tried) if known else [],
        hurry,
        on_progress,
    )
    try:
        best = await search.best()
        if copy is not None:
            best = await search.copied(best, path, copy)
        ubatch, why = await search.ubatch(best, step_ms)
    except _Hurried:
        tried = search.tried
        tuning_store.remember(store, digest, Entry(None, tuple(tried), threads, offload))
        if not all(one.problem for one in tried):
            return Tuned(choose(tried).tuning, complete=False)
        return Tuned(plain(threads), complete=False)
    chosen = msgspec.structs.replace(best.tuning, ubatch=ubatch)
    if copy is not None and not chosen.weights:
        copy.remove()
    entry = Entry(chosen, tuple(search.tried), threads, offload, why)
    tuning_store.remember(store, digest, entry)
    return Tuned(chosen, complete=True)


def _remembered(known: Entry, copy: Copy | None) -> Tuning | None:
    """None where something is still to be measured or made."""
    if known.tuning is None:
        return None
    if copy is None:
        # What was chosen for a copy that may no longer be used is not for the file.
        best = choose(list(known.tried)).tuning if known.tuning.weights else known.tuning
        return msgspec.structs.replace(best, ubatch=known.tuning.ubatch)
    tried = any(one.tuning.weights for one in known.tried)
    return known.tuning if tried and (copy.exists or not known.tuning.weights) else None


class _Search:
    """Probes one after another, each once; ``tried`` before are not tried again."""

    def __init__(
        self,
        prober: Prober,
        threads: int,
        name: str,
        tried: list[Tried],
        hurry: asyncio.Event | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._prober = prober
        self._threads = threads
        self._name = name
        self.tried = tried
        self._hurry = hurry
        self._on_progress = on_progress

    async def best(self) -> Tried:
        """Of all but ubatch. Raises `NoTuningWorks`."""
        await self._probe(plain(self._threads))
        await self._probe(Tuning(True, False, self._threads))
        living = _alive(self.tried)
        extra = choose(living).tuning.use_extra_bufts if living else False
        await self._probe(Tuning(extra, True, self._threads))
        if not _alive(self.tried):
            await self._probe(Tuning(not extra, True, self._threads))
        if not _alive(self.tried):
            raise NoTuningWorks(tuple(self.tried))
        best = choose(self.tried).tuning
        for count in _fewer(self._threads):
            await self._probe(msgspec.structs.replace(best, threads=count))
        return choose(self.tried)

    async def copied(self, best: Tried, path: Path, copy: Copy) -> Tried:
        """``best``, or the better one with a copy of ``path``."""
        if best.measured is None or not best.measured.decode_ms:
            return best  # vectors stay comparable with those of before
        tuning = msgspec.structs.replace(best.tuning, weights=KIND)
        if not copy.exists and (
            problem := await self._unless_hurried(copy.make(path, self._threads))
        ):
            self.tried.append(Tried(tuning, problem=f"no copy: {problem}"))
            log.warning("autotune of %s: %s", self._name, self.tried[-1])
            return best
        for extra in (False, True):
            if not extra or any(one.tuning.use_extra_bufts for one in _alive(self.tried)):
                await self._probe(msgspec.structs.replace(tuning, use_extra_bufts=extra))
        copied = [one for one in _alive(self.tried) if one.tuning.weights]
        if copied and _CLOSE < (fastest := _first_or_better(copied)).turn_ms / best.turn_ms < 1:
            for close in (best.tuning, fastest.tuning):
                await self._probe(close, again=True)
        return choose(self.tried, copies=True)

    async def ubatch(self, best: Tried, step_ms: float) -> tuple[int, str]:
        """The size, and why."""
        measured = best.measured
        if measured is None or not measured.decode_ms:
            return UBATCH, "the model writes no text"
        rows = int(step_ms / max(measured.prefill_ms, 1e-6))
        if rows <= min(_UBATCHES):
            return UBATCH, f"a step has {rows} tokens of a prompt at most, so no size is faster"
        bulk = min(rows, max(_UBATCHES))
        sizes = [UBATCH, *(size for size in _UBATCHES if size < 2 * bulk)]
        for size in sizes:
            await self._probe(msgspec.structs.replace(best.tuning, ubatch=size), bulk)
        found = [
            one
            for one in _alive(self.tried, bulk=True)
            if one.bulk == bulk and one.tuning.weights == best.tuning.weights
        ]
        if not found:
            return UBATCH, "no other size worked"
        fastest = _first_or_better(found).tuning.ubatch
        return fastest, f"the fastest for {bulk} tokens of a prompt at once"

    async def _probe(self, tuning: Tuning, bulk: int = 0, *, again: bool = False) -> None:
        """``again``: the better of two measurements counts, as machines are slow at times, and
        fast at none."""
        known = [one for one in self.tried if one.tuning == tuning and one.bulk == bulk]
        if known and not again:
            return
        if self._hurry is not None and self._hurry.is_set():
            raise _Hurried
        depths = [one.measured.depth for one in _alive(self.tried) if one.measured]
        depth = min(depths, default=DEPTH)
        found = await self._unless_hurried(self._prober(tuning, depth, bulk))
        log.info("autotune of %s: %s", self._name, found)
        if known:
            better = min(known[0], found, key=lambda one: one.turn_ms)
            self.tried[self.tried.index(known[0])] = better
        else:
            self.tried.append(found)
        if self._on_progress is not None:
            total = max(3 + len(_fewer(self._threads)), len(self.tried))
            step = self._on_progress(TuneProgress(len(self.tried), total, self.tried[-1]))
            if step is not None:
                await step

    async def _unless_hurried(self, work: Awaitable[T]) -> T:
        if self._hurry is None:
            return await work
        measuring = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({measuring, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if measuring.done():
                return measuring.result()
            raise _Hurried
        finally:
            for task in (measuring, waiting):
                task.cancel()
            await asyncio.gather(measuring, waiting, return_exceptions=True)


def choose(tried: list[Tried], *, copies: bool = False) -> Tried:
    """The rule of this module, among those that live; the plain one comes first."""
    alive = _alive(tried)
    best = _first_or_better([one for one in alive if not one.tuning.weights])
    copied = [one for one in alive if one.tuning.weights]
    if not copies or not copied:
        return best
    fastest = _first_or_better(copied)
    return fastest if fastest.turn_ms < best.turn_ms * _COPY_MUST_BEAT else best


def _first_or_better(alive: list[Tried]) -> Tried:
    best, *others = alive
    for one in others:
        if one.turn_ms < best.turn_ms * _MUST_BEAT:
            best = one
    return best


def _fewer(threads: int) -> tuple[int, ...]:
    """Numbers of threads worth a probe beside ``threads``."""
    return (threads // 2, threads - 1) if threads > _FEW_THREADS else ()


def _alive(tried: list[Tried], *, bulk: bool = False) -> list[Tried]:
    return [one for one in tried if one.measured and bool(one.bulk) == bulk]


# Probes.


def _child_prober(
    path: Path,
    name: str,
    offload: Offload,
    seconds: float = _PROBE_SECONDS,
    copy: Copy | None = None,
) -> Prober:
    async def probe(tuning: Tuning, depth: int, bulk: int) -> Tried:
        file = copy.path if copy is not None and tuning.weights else path
        return await run_probe(
            file, name, tuning, depth, seconds=seconds, bulk=bulk, offload=offload
        )

    return probe


async def run_probe(
    path: Path,
    name: str,
    tuning: Tuning,
    depth: int,
    *,
    seconds: float,
    backend: str = "llama",
    bulk: int = 0,
    offload: Offload = PROCESSOR,
) -> Tried:
    """Measures in a child. Whatever becomes of the child, this returns, within ``seconds``."""
    arguments = ["--probe", "--name", name, "--backend", backend, "--path", str(path)]
    arguments += ["--depth", str(depth), "--bulk", str(bulk)]
    arguments += ["--tuning", msgspec.json.encode(tuning).decode()]
    arguments += ["--offload", msgspec.json.encode(offload).decode()]
    try:
        said = await spawn.ask(arguments, seconds)
    except TimeoutError:
        return Tried(tuning, problem=f"no answer in {seconds:g} s", bulk=bulk)
    if said.returncode == 0:
        try:
            measured = msgspec.json.decode(said.answer, type=Measured)
            return Tried(tuning, measured, bulk=bulk)
        except msgspec.DecodeError:
            return Tried(tuning, problem="answered nonsense", bulk=bulk)
    problem = spawn.exit_reason(said.returncode)
    if said.returncode > 0 and said.words:
        problem = f"{problem}: {said.words[-1]}"
    return Tried(tuning, problem=problem, bulk=bulk)
