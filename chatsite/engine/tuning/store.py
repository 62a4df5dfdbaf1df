"""Stores the measurements and settings of models on this host in a JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from chatsite.engine.contract import devices
from chatsite.engine.contract.offload import PROCESSOR, Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning.probe import Measured

TURN_PREFILL: Final = 150
TURN_DECODE: Final = 250
# Micro-batch in tokens with which all other settings are measured.
UBATCH: Final = 512

# Incremented when probes change what they measure: stored results are then measured again.
_REVISION: Final = 6


class Tried(msgspec.Struct, frozen=True):
    """One candidate and its result.

    The result is ``measured``, or ``problem`` (``killed by SIGSEGV``, ``no answer in 180 s``, the
    child's last log line). ``passing``: the problem may be temporary, such as a lack of memory.
    With ``bulk`` only the prefill of that many prompt tokens at a time was measured. The best of
    ``runs`` counts.
    """

    tuning: Tuning
    measured: Measured | None = None
    problem: str = ""
    bulk: int = 0
    passing: bool = False
    runs: int = 1

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
        if self.tuning.weights:
            words.append(f"weights copied as {self.tuning.weights}")
        if self.bulk:
            words.append(f"micro-batch {self.tuning.ubatch}")
        if self.measured:
            batch = f" with {self.bulk} tokens per batch" if self.bulk else ""
            words.append(f"{1e3 / self.measured.prefill_ms:.0f} tok/s prefill{batch}")
            if self.measured.decode_ms:
                words.append(f"{1e3 / self.measured.decode_ms:.0f} tok/s decode")
        return ", ".join([*words, self.problem] if self.problem else words)


class Entry(msgspec.Struct, frozen=True):
    """What is known of a model on this host.

    ``tuning`` was chosen among ``tried``, with ``threads`` allowed and the layers of ``offload``,
    for ``slots`` of ``context`` tokens; None until all are measured. ``why_ubatch`` is the reason
    for its size. ``retries`` counts disturbed searches: other processes disturbed a measurement, or
    a candidate failed temporarily. ``again``: one more search follows.
    """

    tuning: Tuning | None
    tried: tuple[Tried, ...]
    threads: int = 0
    offload: Offload = PROCESSOR
    why_ubatch: str = ""
    context: int = 0
    slots: int = 0
    retries: int = 0
    again: bool = False

    def covers(self, context: int, slots: int) -> bool:
        """Return whether it applies to that size: it was measured with at least half of it."""
        return 2 * self.context >= context and 2 * self.slots >= slots


def find(store: Path, digest: str, threads: int, offload: Offload = PROCESSOR) -> Entry | None:
    """Return the entry of this model on this host, or None."""
    return _entry(_read(store).get(_key(digest, threads, offload)))


def history(store: Path, digest: str) -> list[Entry]:
    """Return all entries of a model, for any threads and devices."""
    found = [entry for key, entry in _read(store).items() if key.startswith(f"{digest}:")]
    return [entry for entry in map(_entry, found) if entry is not None]


def remember(store: Path, digest: str, entry: Entry) -> None:
    """Store an entry atomically: a reader sees the old file or the new one."""
    content = _read(store)
    content[_key(digest, entry.threads, entry.offload)] = msgspec.to_builtins(entry)
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


def host_fingerprint(threads: int, offload: Offload = PROCESSOR) -> str:
    """Return a hash of everything that could change the result.

    It covers the CPU, the library and its build, the number of threads and the layers on devices.
    """
    version = metadata.version("llama-cpp-python")
    layers = [f"{n}:{count}" for n, count in zip(offload.devices, offload.layers, strict=True)]
    parts = (str(_REVISION), _cpu(), version, *devices.libraries(), str(threads), *layers)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _entry(found: object) -> Entry | None:
    try:
        return msgspec.convert(found, Entry)
    except msgspec.ValidationError:
        return None


def _key(digest: str, threads: int, offload: Offload) -> str:
    return f"{digest}:{host_fingerprint(threads, offload)}"


def _cpu() -> str:
    """Return the model and flags of the first CPU."""
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
