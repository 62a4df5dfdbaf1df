"""What models can be computed on besides the processor, asked of llama.cpp in a child.

The host never loads llama.cpp, and a driver may end the process that asks it. Builds for the
processor alone are recognised by their files, so that they cost no question.
"""

from __future__ import annotations

import importlib.util
import logging
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from chatsite.engine import spawn

log = logging.getLogger(__name__)

# A driver that is being loaded, or compiles its programs, takes seconds.
_SECONDS: Final = 30.0
_LIBRARIES: Final = ("cuda", "hip", "metal", "vulkan", "sycl", "musa", "cann", "opencl")


class Device(msgspec.Struct, frozen=True):
    """``name`` as llama.cpp calls it (``CUDA0``), ``backend`` what drives it; memory in bytes.
    ``shared``: its memory is the machine's own."""

    name: str
    backend: str
    description: str
    free: int
    total: int
    integrated: bool = False
    shared: bool = False


class Hardware(msgspec.Struct, frozen=True):
    """``system`` is llama.cpp's line about the instructions that it was built for; ``problem``
    why nothing is known."""

    devices: tuple[Device, ...] = ()
    system: str = ""
    problem: str = ""


def libraries() -> tuple[str, ...]:
    """Names and sizes of llama.cpp's files: another build has others."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        return ()
    return tuple(sorted(f"{path.name} {path.stat().st_size}" for path in folder.iterdir()))


def built_for() -> tuple[str, ...]:
    """What llama.cpp was built for besides the processor, by the libraries that are installed."""
    names = {line.split(".")[0] for line in libraries()}
    return tuple(name for name in _LIBRARIES if f"libggml-{name}" in names)


async def find(backend: Literal["llama", "scripted"] = "llama") -> Hardware:
    """Whatever becomes of the child, this returns; no devices if it did not say."""
    try:
        said = await spawn.ask(["--devices", "--name", "devices", "--backend", backend], _SECONDS)
    except TimeoutError:
        return Hardware(problem=f"no answer in {_SECONDS:g} s")
    if said.returncode == 0:
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(said.answer, type=Hardware)
    how = spawn.exit_reason(said.returncode)
    problem = f"{how}: {said.words[-1]}" if said.words and said.returncode > 0 else how
    log.warning("the devices of this machine could not be found: %s", problem)
    return Hardware(problem=problem)
