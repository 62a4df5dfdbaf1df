"""Tests whether a model file loads and computes, in a child that may crash.

`check` is the host's side, `run` the child's (``python -m chatsite.engine --check``). The child has
limits of memory and time, besides the sandbox that every child enters.
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

from chatsite.engine.batching.speed import SpeedMeter
from chatsite.engine.batching.warm_up import warm_up
from chatsite.engine.contract.messages import Load
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.prompting.jinja import Renderer
from chatsite.engine.prompting.template import ChatTemplate
from chatsite.engine.tuning.probe import Opener
from chatsite.sandbox import spawn

SECONDS: Final = 60.0
# The whole file has to be read; this is the throughput of a slow disk.
_BYTES_PER_SECOND: Final = 50_000_000
# Address space besides the file; a healthy child uses a fraction of it.
_ADDRESS_SPACE: Final = 6 << 30
_CONTEXT: Final = 512
_PLAIN: Final = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
_WORDS: Final = 300  # characters of the child's last log line that are reported
_LINE_CHARS: Final = 2000  # of the line that are searched


class Checked(msgspec.Struct, frozen=True):
    """Properties of a file that loads.

    ``template_problem`` is why its chat template can't be used; empty if it can.
    """

    architecture: str
    parameters: int
    context: int
    generates: bool
    template_problem: str = ""


class CheckFailed(Exception):
    """The file can't be used as a model here; the message gives the reason."""


def run(open_backend: Opener, path: str, renderer: Renderer, *, compute: bool = True) -> Checked:
    """Load the model and return its properties.

    Raise `LoadError`, or RuntimeError where the library fails to compute.
    """
    load = Load("check", path, _PLAIN, context=_CONTEXT, slots=1, step_target_ms=1000)
    backend = open_backend(load, lambda progress: None)
    if compute:
        warm_up(backend, SpeedMeter(), time.perf_counter)
    vocabulary, facts = backend.vocabulary, backend.facts
    template = ChatTemplate(
        backend.template,
        bos=vocabulary.bos_text,
        eos=vocabulary.eos_text,
        base=True,
        renderer=renderer,
    )
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
    """Limit the address space of this process, which is to load a file of ``size`` bytes."""
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
    """Load ``path`` in a child, and return its properties or raise `CheckFailed`.

    The timeout is ``seconds`` plus the time to read a file of its size. Without ``compute`` the
    weights are mapped and not read, for files larger than the machine's memory. However the child
    ends, no other exception is raised. Cancelling kills the child.
    """
    size = (await asyncio.to_thread(path.stat)).st_size
    arguments = ["--check", "--name", name, "--backend", backend, "--path", str(path)]
    if not compute:
        arguments.append("--load-only")
    patience = seconds + size / _BYTES_PER_SECOND
    try:
        result = await spawn.run(arguments, patience)
    except TimeoutError:
        raise CheckFailed(f"no answer in {patience:.0f} s") from None
    if result.returncode == 0:
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(result.answer, type=Checked)
        raise CheckFailed("the child sent an invalid answer")
    raise CheckFailed(_reason(result.returncode, result.reasons))


def _reason(returncode: int, reasons: list[str]) -> str:
    last = reasons[-1] if reasons else ""
    # Failed assertions begin with the path of the library's build directory.
    last = re.sub(r"^/\S*/(?=[^\s/:]+:\d+: )", "", last[:_LINE_CHARS])[:_WORDS]
    how = spawn.exit_reason(returncode)
    if not last:
        return how
    return f"{how}: {last}" if returncode < 0 else last
