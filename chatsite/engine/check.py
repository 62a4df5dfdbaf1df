"""Whether a model file can be loaded and computes, found out in a child that may die of it.

`check` is the host's side, `run` the child's (``python -m chatsite.engine --check``). The child
has a limit of memory and of time, besides what `sandbox.py` takes from every child.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from chatsite.engine import spawn
from chatsite.engine.messages import Load
from chatsite.engine.probe import Opener
from chatsite.engine.speed import SpeedMeter
from chatsite.engine.template import ChatTemplate
from chatsite.engine.tuning import Tuning
from chatsite.engine.warm_up import warm_up

SECONDS: Final = 60.0
# Each byte of the file has to be read; slow disks give this many a second.
_BYTES_PER_SECOND: Final = 50_000_000
# Address space besides the file, of which a healthy child uses a fraction.
_ADDRESS_SPACE: Final = 6 << 30
_CONTEXT: Final = 512
_PLAIN: Final = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
_WORDS: Final = 300  # characters of a child's last words that are passed on


class Checked(msgspec.Struct, frozen=True):
    """What a file that loads says of itself; ``template_problem`` why its chat template can't
    be used, empty where it can."""

    architecture: str
    parameters: int
    context: int
    generates: bool
    template_problem: str = ""


class CheckFailed(Exception):
    """The file can't be used as a model here; the message says why."""


def run(open_backend: Opener, path: str, *, compute: bool = True) -> Checked:
    """Raises `LoadError`, or RuntimeError where the library refuses to compute."""
    load = Load("check", path, _PLAIN, context=_CONTEXT, slots=1, step_target_ms=1000)
    backend = open_backend(load, lambda progress: None)
    if compute:
        warm_up(backend, SpeedMeter(), time.perf_counter)
    vocabulary, facts = backend.vocabulary, backend.facts
    template = ChatTemplate(backend.template, bos=vocabulary.bos_text, eos=vocabulary.eos_text)
    found = Checked(
        facts.architecture,
        facts.parameters,
        facts.context,
        facts.generates,
        template.problem if facts.generates else "",
    )
    backend.close()
    return found


def limit_memory(size: int) -> None:
    """For this process, which is to load a file of ``size`` bytes."""
    most = 2 * size + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


async def check(
    path: Path,
    *,
    name: str = "model",
    compute: bool = True,
    seconds: float = SECONDS,
    backend: str = "llama",
) -> Checked:
    """Loads ``path`` in a child within ``seconds`` and what its size takes to read. Without
    ``compute`` the weights are mapped and not read, for files larger than the machine's memory.
    Whatever becomes of the child, this returns or raises `CheckFailed`. Cancelling ends the
    child."""
    size = (await asyncio.to_thread(path.stat)).st_size
    arguments = ["--check", "--name", name, "--backend", backend, "--path", str(path)]
    if not compute:
        arguments.append("--load-only")
    patience = seconds + size / _BYTES_PER_SECOND
    try:
        said = await spawn.ask(arguments, patience)
    except TimeoutError:
        raise CheckFailed(f"no answer in {patience:.0f} s") from None
    if said.returncode == 0:
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(said.answer, type=Checked)
        raise CheckFailed("the child answered nonsense")
    raise CheckFailed(_reason(said.returncode, said.words))


def _reason(returncode: int, words: list[str]) -> str:
    last = words[-1].removeprefix("ERROR ") if words else ""
    # Failed assertions begin with the place where the library was built.
    last = re.sub(r"^/\S*/(?=\S+:\d+: )", "", last)[:_WORDS]
    how = spawn.exit_reason(returncode)
    if not last:
        return how
    return f"{how}: {last}" if returncode < 0 else last
