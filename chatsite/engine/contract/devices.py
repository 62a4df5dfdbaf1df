"""The devices besides the CPU that models can be computed on, queried from llama.cpp in a child.

The host never loads llama.cpp, and a driver may crash the process that queries it. CPU-only builds
are recognized by their files, without a query.
"""

from __future__ import annotations

import importlib.util
import logging
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from chatsite.sandbox import spawn

log = logging.getLogger(__name__)

# Loading a driver or compiling its kernels takes seconds.
_SECONDS: Final = 30.0
_LIBRARIES: Final = ("cuda", "hip", "metal", "vulkan", "sycl", "musa", "cann", "opencl")


class Device(msgspec.Struct, frozen=True):
    """One device; memory is in bytes.

    ``name`` is llama.cpp's (``CUDA0``), ``backend`` its driver. ``shared``: its memory is the
    machine's main memory.
    """

    name: str
    backend: str
    description: str
    free: int
    total: int
    integrated: bool = False
    shared: bool = False


class Hardware(msgspec.Struct, frozen=True):
    """All devices.

    ``system`` is llama.cpp's line about the instruction sets that it was built for; ``problem`` is
    why nothing is known.
    """

    devices: tuple[Device, ...] = ()
    system: str = ""
    problem: str = ""


def libraries() -> tuple[str, ...]:
    """Return names and sizes of llama.cpp's files, which identify a build."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        return ()
    return tuple(sorted(f"{path.name} {path.stat().st_size}" for path in folder.iterdir()))


def built_for() -> tuple[str, ...]:
    """Return the backends besides the CPU that llama.cpp was built with, by its libraries."""
    names = {line.split(".")[0] for line in libraries()}
    return tuple(name for name in _LIBRARIES if f"libggml-{name}" in names)


async def find(backend: Literal["llama", "scripted"] = "llama") -> Hardware:
    """Query the devices. Never raises: if the child fails, the result has no devices."""
    try:
        result = await spawn.run(["--devices", "--name", "devices", "--backend", backend], _SECONDS)
    except TimeoutError:
        return Hardware(problem=f"no answer in {_SECONDS:g} s")
    if result.returncode == 0:
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(result.answer, type=Hardware)
    how = spawn.exit_reason(result.returncode)
    problem = f"{how}: {result.reasons[-1]}" if result.reasons and result.returncode > 0 else how
    log.warning("Devices can't be queried", extra={"error": problem})
    return Hardware(problem=problem)
