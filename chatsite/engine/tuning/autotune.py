"""Finds the fastest settings for a model on this host, in children that may crash.

llama.cpp's defaults are not always right: repacked weights (``use_extra_bufts``) can kill the
process with SIGSEGV on virtual CPUs that advertise unsupported instructions, and flash attention
halves the decode speed of some models on some CPUs. So a separate child (`probe.py`) measures each
candidate, in the engine's environment, and a candidate that crashes, hangs or fails is eliminated.

The candidate wins that takes the least time for a typical turn, `TURN_PREFILL` new prompt tokens
and `TURN_DECODE` answer tokens, alone and concurrently with others. A candidate must beat the plain
one (both off) by 3 % to replace it. Three probes suffice on a small machine: the plain one, extra
buffers, then flash attention on the better of those; the fourth combination is tried only if none
of these survives. With more than `_FEW_THREADS` threads the winner is also tried with fewer, since
two logical CPUs of one core may slow each other down. Sizes of the micro-batch (ubatch) are tried
last, and only where a step may have more tokens than the smallest of them: otherwise all are
equivalent.

Probes have the context and slots that the model is served with, so they take the memory that was
admitted for it, and attention reads a conversation of realistic length. A close race is run twice,
and the better time of each candidate counts.

Where a copy of the file with weights of another type may be made (`requantized.py`), it is tried
with the winner's settings, with and without extra buffers. Since it costs memory and disk, it must
be faster by `_COPY_MUST_BEAT`; otherwise it is removed.

In the background (with ``hurry``) no request waits for it: a request ends the search, and the next
search resumes after the probes already done. Probes disturbed by other processes are discarded, and
those that failed for lack of memory or disk are retried, in at most `_SEARCHES` searches. The
choice is stored by model and host, with all candidates (`store.py`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from chatsite.engine.contract.backend import Decoded
from chatsite.engine.contract.offload import PROCESSOR, Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import store as tuning_store
from chatsite.engine.tuning.probe import LEAST_DEPTH, SEQUENCES, Measured, depth_for
from chatsite.engine.tuning.requantized import KIND, Copy
from chatsite.engine.tuning.store import UBATCH, Entry, Tried
from chatsite.sandbox import spawn

log = logging.getLogger(__name__)

T = TypeVar("T")

_MUST_BEAT: Final = 0.97
_COPY_MUST_BEAT: Final = 0.9
# A ratio above this may be noise.
_CLOSE: Final = 0.8
# Maximum share of CPU time that other processes may take during a probe.
_DISTURBED: Final = 0.2
# Maximum of disturbed searches. The last one accepts all measurements: a permanent load disturbs
# all candidates alike.
_SEARCHES: Final = 3
_PROBE_SECONDS: Final = 180.0
_FEW_THREADS: Final = 3
_UBATCHES: Final = (128, 1024, 2048)
# Words in the last log lines of a child that lacked memory.
_LAST_WORDS: Final = 5
_NO_MEMORY: Final = ("memory", "alloc", Decoded.NO_SPACE.value.lower())


class TuneProgress(msgspec.Struct, frozen=True):
    """``done`` of about ``total`` probes have ended; ``last`` is the latest of them."""

    done: int
    total: int
    last: Tried | None


class NoTuningWorks(Exception):
    """No candidate survived: the model can't run on this host. ``tried`` has the result of each."""

    def __init__(self, tried: tuple[Tried, ...]) -> None:
        super().__init__("; ".join(map(str, tried)))
        self.tried = tried


class Tuned(NamedTuple):
    """A tuning; ``complete``: everything worth measuring was measured."""

    tuning: Tuning
    complete: bool


class _Hurried(Exception):
    """A request is waiting."""


class _Disturbed(Exception):
    """Other processes used part of the machine during a probe."""


OnProgress = Callable[[TuneProgress], Awaitable[None] | None]
# Arguments: a tuning, tokens of context, and tokens per prefill of a bulk probe (0: not bulk).
Prober = Callable[[Tuning, int, int], Awaitable[Tried]]


def plain(threads: int) -> Tuning:
    """Return the settings that work wherever any do."""
    return Tuning(use_extra_bufts=False, flash_attention=False, threads=threads)


def known(
    digest: str,
    threads: int,
    *,
    store: Path,
    offload: Offload = PROCESSOR,
    copy: Copy | None = None,
    context: int = 2 * LEAST_DEPTH,
    slots: int = SEQUENCES,
) -> Tuned:
    """Return the settings to load the model with now, without measuring.

    They are the chosen ones, else the best so far, else `plain`. Parameters are those of `tune`.
    """
    entry = tuning_store.find(store, digest, threads, offload)
    if entry is None:
        return Tuned(plain(threads), complete=False)
    chosen = _remembered(entry, copy)
    complete = chosen is not None and not entry.again and entry.covers(context, slots)
    return Tuned(chosen or _best_so_far(entry.tried, threads), complete)


async def survivor(
    path: Path,
    digest: str,
    threads: int,
    *,
    store: Path,
    name: str = "model",
    offload: Offload = PROCESSOR,
    copy: Copy | None = None,
    context: int = 2 * LEAST_DEPTH,
    slots: int = SEQUENCES,
    prober: Prober | None = None,
) -> Tuning:
    """Return settings that work for a model whose engine child crashed before it answered.

    They are the chosen ones, or the first that survive a probe. Speed does not count here, since
    other models may be answering. Raise `NoTuningWorks`.
    """
    entry = tuning_store.find(store, digest, threads, offload)
    if entry is not None and (chosen := _remembered(entry, copy)) is not None:
        return chosen
    probe = prober or _child_prober(path, name, offload, context, slots)
    tried: list[Tried] = []
    for extra, flash in ((False, False), (False, True), (True, False), (True, True)):
        found = await probe(Tuning(extra, flash, threads), LEAST_DEPTH, 0)
        log.info(
            "Probe after a crash before the first answer", extra={"model": name, "tried": found}
        )
        if found.measured is not None:
            return found.tuning
        tried.append(found)
    raise NoTuningWorks(tuple(tried))


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
    context: int = 2 * LEAST_DEPTH,
    slots: int = SEQUENCES,
    hurry: asyncio.Event | None = None,
    on_progress: OnProgress | None = None,
    prober: Prober | None = None,
) -> Tuned:
    """Return the stored settings for a model, or measure them.

    ``path`` is the model file, ``digest`` that of its content. It is served with ``threads``
    threads, steps of ``step_ms``, and ``slots`` of ``context`` tokens. Settings are stored in the
    JSON file ``store``. Measuring takes well under a minute for a small model, and at most
    `_PROBE_SECONDS` per probe. ``hurry`` ends it with the best so far; without ``hurry``
    measurements count even if other processes disturb them. ``name`` is shown in the list of
    processes.

    Raise `NoTuningWorks`. Cancelling ends the running probe. With ``copy`` a copy may be made and
    chosen; the copy that the returned settings require exists.
    """
    entry = tuning_store.find(store, digest, threads, offload)
    if entry is None or not entry.covers(context, slots):
        entry = Entry(None, (), threads, offload, context=context, slots=slots)
    if not entry.again and (chosen := _remembered(entry, copy)) is not None:
        return Tuned(chosen, complete=True)
    search = _Search(
        prober or _child_prober(path, name, offload, context, slots, copy=copy),
        threads,
        name,
        [one for one in entry.tried if not one.passing],
        depth_for(context),
        hurry,
        on_progress,
        tolerant=hurry is None or entry.retries >= _SEARCHES - 1,
    )

    def unfinished(*, spoiled: bool) -> Tuned:
        retries = entry.retries + spoiled
        tried = tuple(search.tried)
        found = msgspec.structs.replace(
            entry, tuning=None, tried=tried, retries=retries, again=False
        )
        tuning_store.remember(store, digest, found)
        return Tuned(_best_so_far(tried, threads), complete=False)

    try:
        best = await search.best()
        if copy is not None:
            best = await search.copied(best, path, copy)
        ubatch, why = await search.ubatch(best, step_ms)
    except _Hurried:
        return unfinished(spoiled=False)
    except _Disturbed:
        log.info("Autotuning postponed: other processes use the machine", extra={"model": name})
        return unfinished(spoiled=True)
    except NoTuningWorks:
        if entry.retries >= _SEARCHES - 1 or not any(one.passing for one in search.tried):
            raise
        return unfinished(spoiled=True)
    tuning = msgspec.structs.replace(best.tuning, ubatch=ubatch)
    if copy is not None and not tuning.weights:
        copy.remove()
    retries = entry.retries + any(one.passing for one in search.tried)
    again = entry.retries < retries < _SEARCHES
    tuning_store.remember(
        store,
        digest,
        msgspec.structs.replace(
            entry,
            tuning=tuning,
            tried=tuple(search.tried),
            why_ubatch=why,
            retries=retries,
            again=again,
        ),
    )
    return Tuned(tuning, complete=not again)


def _remembered(entry: Entry, copy: Copy | None) -> Tuning | None:
    """Return the chosen settings, or None if something is left to measure or make."""
    if entry.tuning is None:
        return None
    if copy is None:
        # Settings chosen for a copy that may no longer be used do not apply to the file.
        best = choose(list(entry.tried)).tuning if entry.tuning.weights else entry.tuning
        return msgspec.structs.replace(best, ubatch=entry.tuning.ubatch)
    tried = any(one.tuning.weights for one in entry.tried)
    return entry.tuning if tried and (copy.exists or not entry.tuning.weights) else None


def _best_so_far(tried: Sequence[Tried], threads: int) -> Tuning:
    """Return the best candidate with the file's own weights."""
    alive = [one for one in _alive(list(tried)) if not one.tuning.weights]
    return choose(alive).tuning if alive else plain(threads)


class _Search:
    """Runs probes sequentially, each once.

    Candidates in ``tried`` are not probed again.
    """

    def __init__(
        self,
        prober: Prober,
        threads: int,
        name: str,
        tried: list[Tried],
        depth: int,
        hurry: asyncio.Event | None,
        on_progress: OnProgress | None,
        *,
        tolerant: bool,
    ) -> None:
        """``tolerant`` accepts disturbed measurements."""
        self._prober = prober
        self._threads = threads
        self._name = name
        self.tried = tried
        self._depth = depth
        self._hurry = hurry
        self._on_progress = on_progress
        self._tolerant = tolerant

    async def best(self) -> Tried:
        """Return the best candidate, except for ubatch. Raise `NoTuningWorks`."""
        await self._probe(plain(self._threads))
        await self._probe(Tuning(True, False, self._threads))
        living = _alive(self.tried)
        extra = choose(living).tuning.use_extra_bufts if living else False
        await self._probe(Tuning(extra, True, self._threads))
        if not _alive(self.tried):
            await self._probe(Tuning(not extra, True, self._threads))
        if not _alive(self.tried):
            raise NoTuningWorks(tuple(self.tried))
        await self._settle()
        best = choose(self.tried).tuning
        for count in _fewer(self._threads):
            await self._probe(msgspec.structs.replace(best, threads=count))
        await self._settle()
        return choose(self.tried)

    async def _settle(self) -> None:
        """Probe the leaders again if the race between settings of the file itself is close."""
        own = [one for one in _alive(self.tried) if not one.tuning.weights]
        first, *others = sorted(own, key=lambda one: one.turn_ms)
        if others and first.turn_ms > others[0].turn_ms * _CLOSE:
            for close in (first, others[0]):
                await self._repeat(close)

    async def _repeat(self, tried: Tried) -> None:
        if tried.runs == 1:
            await self._probe(tried.tuning, again=True)

    async def copied(self, best: Tried, path: Path, copy: Copy) -> Tried:
        """Return ``best``, or the better candidate with a copy of ``path``."""
        if best.measured is None or not best.measured.decode_ms:
            return best  # vectors must stay comparable with earlier ones
        tuning = msgspec.structs.replace(best.tuning, weights=KIND)
        if not copy.exists and (
            problem := await self._unless_hurried(copy.make(path, self._threads))
        ):
            self.tried.append(Tried(tuning, problem=f"no copy: {problem}", passing=True))
            log.warning(
                "Autotuning without a copy", extra={"model": self._name, "tried": self.tried[-1]}
            )
            return best
        for extra in (False, True):
            if not extra or any(one.tuning.use_extra_bufts for one in _alive(self.tried)):
                await self._probe(msgspec.structs.replace(tuning, use_extra_bufts=extra))
        copied = [one for one in _alive(self.tried) if one.tuning.weights]
        if copied and _CLOSE < (fastest := _first_or_better(copied)).turn_ms / best.turn_ms < 1:
            for close in (best, fastest):
                await self._repeat(close)
        return choose(self.tried, copies=True)

    async def ubatch(self, best: Tried, step_ms: float) -> tuple[int, str]:
        """Return the size, and the reason."""
        measured = best.measured
        if measured is None or not measured.decode_ms:
            return UBATCH, "the model generates no text"
        rows = int(step_ms / max(measured.prefill_ms, 1e-6))
        if rows <= min(_UBATCHES):
            return UBATCH, f"at most {rows} prompt tokens per step, so no size is faster"
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
        return fastest, f"the fastest for {bulk} prompt tokens per step"

    async def _probe(self, tuning: Tuning, bulk: int = 0, *, again: bool = False) -> None:
        """Measure a candidate once.

        With ``again``, keep the better of two measurements: disturbances only make a machine
        slower.
        """
        known = [one for one in self.tried if one.tuning == tuning and one.bulk == bulk]
        if known and not again:
            return
        if self._hurry is not None and self._hurry.is_set():
            raise _Hurried
        depths = [one.measured.depth for one in _alive(self.tried) if one.measured]
        depth = min(depths, default=self._depth)
        found = await self._unless_hurried(self._prober(tuning, depth, bulk))
        log.info("Autotuning probe", extra={"model": self._name, "tried": found})
        if found.measured and found.measured.disturbed > _DISTURBED and not self._tolerant:
            raise _Disturbed
        if known:
            better = min(known[0], found, key=lambda one: one.turn_ms)
            better = msgspec.structs.replace(better, runs=known[0].runs + 1)
            self.tried[self.tried.index(known[0])] = better
        else:
            self.tried.append(found)
        if self._on_progress is not None:
            total = max(3 + len(_fewer(self._threads)), len(self.tried))
            step = self._on_progress(TuneProgress(len(self.tried), total, found))
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
    """Return the winner among the survivors by this module's rule; the plain one comes first."""
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
    """Return lower thread counts that are worth a probe."""
    return (threads // 2, threads - 1) if threads > _FEW_THREADS else ()


def _alive(tried: list[Tried], *, bulk: bool = False) -> list[Tried]:
    return [one for one in tried if one.measured and bool(one.bulk) == bulk]


# Probes.


def _child_prober(
    path: Path,
    name: str,
    offload: Offload,
    context: int,
    slots: int,
    seconds: float = _PROBE_SECONDS,
    copy: Copy | None = None,
) -> Prober:
    async def probe(tuning: Tuning, depth: int, bulk: int) -> Tried:
        file = copy.path if copy is not None and tuning.weights else path
        return await run_probe(
            *(file, name, tuning, depth),
            seconds=seconds,
            context=context,
            slots=slots,
            bulk=bulk,
            offload=offload,
        )

    return probe


async def run_probe(
    path: Path,
    name: str,
    tuning: Tuning,
    depth: int,
    *,
    seconds: float,
    context: int = 2 * LEAST_DEPTH,
    slots: int = SEQUENCES,
    backend: str = "llama",
    bulk: int = 0,
    offload: Offload = PROCESSOR,
) -> Tried:
    """Measure in a child. Return within ``seconds``, whatever happens to the child."""
    arguments = ["--probe", "--name", name, "--backend", backend, "--path", str(path)]
    arguments += ["--depth", str(depth), "--bulk", str(bulk)]
    arguments += ["--context", str(context), "--slots", str(slots)]
    arguments += ["--tuning", msgspec.json.encode(tuning).decode()]
    arguments += ["--offload", msgspec.json.encode(offload).decode()]
    try:
        result = await spawn.run(arguments, seconds)
    except TimeoutError:
        return Tried(tuning, problem=f"no answer in {seconds:g} s", bulk=bulk, passing=True)
    except OSError as error:
        return Tried(tuning, problem=str(error), bulk=bulk, passing=True)
    if result.returncode == 0:
        try:
            measured = msgspec.json.decode(result.answer, type=Measured)
            return Tried(tuning, measured, bulk=bulk)
        except msgspec.DecodeError:
            return Tried(tuning, problem="sent an invalid answer", bulk=bulk)
    problem = spawn.exit_reason(result.returncode)
    if result.returncode > 0 and result.reasons:
        problem = f"{problem}: {result.reasons[-1]}"
    return Tried(tuning, problem=problem, bulk=bulk, passing=lacked_memory(result))


def lacked_memory(result: spawn.Result) -> bool:
    """Return whether a child ended for lack of memory, which may be available later.

    The kernel kills a process that takes too much, and the library logs what it could not allocate
    before it exits or aborts. Other signals are bugs of its code on this CPU, whatever it logged
    before.
    """
    if result.returncode == -signal.SIGKILL:
        return True
    if result.returncode < 0 and result.returncode != -signal.SIGABRT:
        return False
    last = " ".join(result.reasons[-_LAST_WORDS:]).lower()
    return any(word in last for word in _NO_MEMORY)
