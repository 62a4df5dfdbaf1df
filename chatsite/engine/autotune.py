"""Finds the fastest settings for a model on this host, in children that may die of them.

llama.cpp's defaults are not always right: repacked weights (``use_extra_bufts``) can end the
process with SIGSEGV on virtual CPUs that advertise what they can't do, and flash attention
halves the decode speed of some models on some CPUs. So each candidate is measured by a child of
its own (`probe.py`), with the environment that the engine will have, and whoever dies, hangs or
fails is out.

The rule: the candidate wins that takes the least time for a typical turn, `TURN_PREFILL` new
prompt tokens and `TURN_DECODE` answer tokens with several sequences at once. A candidate must
beat the plain one (neither switched on) by 3 % to replace it. Three probes do on a small
machine: the plain one, extra buffers, then flash attention on the better of those; only if none
of these lives is the fourth combination tried. With more than `_FEW_THREADS` threads the winner
is tried on fewer, since two logical processors of one core may slow each other down.

The choice is remembered by model and host in a JSON file, with all that was tried.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from chatsite.engine import spawn
from chatsite.engine.messages import Tuning
from chatsite.engine.probe import DEPTH, Measured

log = logging.getLogger(__name__)

TURN_PREFILL: Final = 150
TURN_DECODE: Final = 250
_MUST_BEAT: Final = 0.97
_PROBE_SECONDS: Final = 180.0

_FEW_THREADS: Final = 3

# Raised when probes measure something else: what is remembered is then measured again.
_REVISION: Final = 3


class Tried(msgspec.Struct, frozen=True):
    """One candidate and what became of it: ``measured``, or ``problem`` (``killed by SIGSEGV``,
    ``no answer in 180 s``, the child's last words)."""

    tuning: Tuning
    measured: Measured | None = None
    problem: str = ""

    @property
    def turn_ms(self) -> float:
        if self.measured is None:
            return float("inf")
        return TURN_PREFILL * self.measured.prefill_ms + TURN_DECODE * self.measured.decode_ms

    def __str__(self) -> str:
        words = [
            f"extra buffers {'on' if self.tuning.use_extra_bufts else 'off'}",
            f"flash attention {'on' if self.tuning.flash_attention else 'off'}",
            f"threads {self.tuning.threads}",
        ]
        if self.measured:
            words.append(f"{1e3 / self.measured.prefill_ms:.0f} tok/s prefill")
            if self.measured.decode_ms:
                words.append(f"{1e3 / self.measured.decode_ms:.0f} tok/s decode")
        return ", ".join([*words, self.problem] if self.problem else words)


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


OnProgress = Callable[[TuneProgress], Awaitable[None] | None]
Prober = Callable[[Tuning, int], Awaitable[Tried]]


async def tune(
    path: Path,
    digest: str,
    threads: int,
    *,
    store: Path,
    name: str = "model",
    on_progress: OnProgress | None = None,
    prober: Prober | None = None,
) -> Tuning:
    """The `Tuning` for the model file ``path`` (content ``digest``) with ``threads`` threads:
    remembered in the JSON file ``store``, or else measured, in well under a minute for a small
    model and at most `_PROBE_SECONDS` per probe. ``name`` shows in the list of processes.
    Raises `NoTuningWorks`. Cancelling ends the running probe."""
    if known := remembered(store, digest, threads):
        return known
    prober = prober or _child_prober(path, name)
    tried: list[Tried] = []

    async def probe(extra: bool, flash: bool, count: int = threads) -> None:
        tuning = Tuning(use_extra_bufts=extra, flash_attention=flash, threads=count)
        depth = min((one.measured.depth for one in tried if one.measured), default=DEPTH)
        tried.append(await prober(tuning, depth))
        log.info("autotune of %s: %s", name, tried[-1])
        if on_progress is not None:
            total = max(3 + len(_fewer(threads)), len(tried))
            step = on_progress(TuneProgress(len(tried), total, tried[-1]))
            if step is not None:
                await step

    await probe(extra=False, flash=False)
    await probe(extra=True, flash=False)
    extra = choose(tried).tuning.use_extra_bufts if _alive(tried) else False
    await probe(extra=extra, flash=True)
    if not _alive(tried):
        await probe(extra=not extra, flash=True)
    if not _alive(tried):
        raise NoTuningWorks(tuple(tried))
    best = choose(tried).tuning
    for count in _fewer(threads):
        await probe(best.use_extra_bufts, best.flash_attention, count)
    chosen = choose(tried)
    _remember(store, _key(digest, threads), chosen, tried)
    return chosen.tuning


def choose(tried: list[Tried]) -> Tried:
    """The rule of this module, among those that live; the plain one comes first."""
    best, *others = _alive(tried)
    for one in others:
        if one.turn_ms < best.turn_ms * _MUST_BEAT:
            best = one
    return best


def _fewer(threads: int) -> tuple[int, ...]:
    """Numbers of threads worth a probe beside ``threads``."""
    return (threads // 2, threads - 1) if threads > _FEW_THREADS else ()


def _alive(tried: list[Tried]) -> list[Tried]:
    return [one for one in tried if one.measured]


# Probes.


def _child_prober(path: Path, name: str, seconds: float = _PROBE_SECONDS) -> Prober:
    async def probe(tuning: Tuning, depth: int) -> Tried:
        return await run_probe(path, name, tuning, depth, seconds=seconds)

    return probe


async def run_probe(
    path: Path, name: str, tuning: Tuning, depth: int, *, seconds: float, backend: str = "llama"
) -> Tried:
    """Measures in a child. Whatever becomes of the child, this returns, within ``seconds``."""
    arguments = ["--probe", "--name", name, "--backend", backend, "--path", str(path)]
    arguments += ["--depth", str(depth), "--tuning", msgspec.json.encode(tuning).decode()]
    child = await spawn.start(arguments)
    child.stdin.close()
    words: list[str] = []
    listening = asyncio.create_task(spawn.read_lines(child.stderr, words.append))
    try:
        async with asyncio.timeout(seconds):
            answer = await child.stdout.read()
            returncode = await child.process.wait()
            await listening
    except TimeoutError:
        return Tried(tuning, problem=f"no answer in {seconds:g} s")
    finally:
        listening.cancel()
        with suppress(ProcessLookupError):
            child.process.kill()
        await child.process.wait()
    if returncode == 0:
        try:
            return Tried(tuning, measured=msgspec.json.decode(answer, type=Measured))
        except msgspec.DecodeError:
            return Tried(tuning, problem="answered nonsense")
    problem = spawn.exit_reason(returncode)
    if returncode > 0 and words:
        problem = f"{problem}: {words[-1]}"
    return Tried(tuning, problem=problem)


# Memory.


def remembered(store: Path, digest: str, threads: int) -> Tuning | None:
    """What an earlier `tune` chose for this model on this host."""
    entry = _read(store).get(_key(digest, threads))
    try:
        return msgspec.convert(entry["tuning"], Tuning) if entry else None
    except (msgspec.ValidationError, KeyError, TypeError):
        return None


def history(store: Path, digest: str) -> list[tuple[Tuning, tuple[Tried, ...]]]:
    """What was chosen for a model on this machine, and all that was tried for it."""
    found = []
    for key, entry in _read(store).items():
        if key.startswith(f"{digest}:"):
            try:
                tried = msgspec.convert(entry["tried"], tuple[Tried, ...])
                found.append((msgspec.convert(entry["tuning"], Tuning), tried))
            except (msgspec.ValidationError, KeyError, TypeError):
                continue
    return found


def host_fingerprint(threads: int) -> str:
    """Changes with anything that could change the outcome: CPU, library, thread count."""
    version = metadata.version("llama-cpp-python")
    parts = (str(_REVISION), _cpu(), version, str(threads))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _key(digest: str, threads: int) -> str:
    return f"{digest}:{host_fingerprint(threads)}"


def _cpu() -> str:
    """Model and flags of the first CPU."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    names = ("vendor_id", "model name", "flags", "Features", "CPU part", "stepping")
    lines = [line for line in first.splitlines() if line.split("\t")[0].strip() in names]
    return "\n".join(lines) or platform.machine()


def _read(store: Path) -> dict[str, Any]:
    try:
        content = json.loads(store.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(store: Path, key: str, chosen: Tried, tried: list[Tried]) -> None:
    """Written beside and moved into place: a reader sees the old file or the new one."""
    content = _read(store)
    content[key] = msgspec.to_builtins({"tuning": chosen.tuning, "tried": tried})
    store.parent.mkdir(parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=store.parent, prefix=f".{store.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, store)
    except BaseException:
        Path(fresh).unlink()
        raise
