"""Starts child processes and reports how they ended.

No secret of the host reaches a child: its environment contains only the variables listed here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from chatsite.sandbox import log_lines

_PASSED_ON = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "TZ"),
    # Visible devices of each vendor, and the location of drivers.
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "CUDA_CACHE_PATH"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"),
    *("GGML_VK_VISIBLE_DEVICES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES", "ONEAPI_DEVICE_SELECTOR"),
)
_FIXED = {
    # llama.cpp's threads synchronize some thousand times per step, so they must spin briefly (a
    # passive wait policy halves throughput), and no OMP_* variable is passed on. But GNU OpenMP
    # spins 300,000 rounds by default, and a thread may spend its time slice waiting for one that
    # has no CPU. 1,000 rounds are as fast on idle cores; with other busy processes on two cores,
    # steps were 2 to 20 times shorter.
    "GOMP_SPINCOUNT": "1000",
    # llama_cpp imports numpy, whose BLAS would start a thread per core and computes nothing here.
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    # Otherwise a failed assertion starts a debugger, which takes seconds and finds nothing.
    "GGML_NO_BACKTRACE": "1",
}

_ANSWER_MOST = 1 << 20
_READ_BYTES = 1 << 16

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(outer: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a child."""
    return {name: outer[name] for name in _PASSED_ON if name in outer} | _FIXED


class Child(NamedTuple):
    """A running child and its pipes."""

    process: Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader


async def start(
    arguments: list[str], module: str = "chatsite.engine", *, limit: int = _READ_BYTES
) -> Child:
    """Start a child. ``limit`` is the buffer for its output in bytes; beyond it, it blocks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=ROOT,
        env=environment(),
        limit=limit,
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("a child without pipes")
    return Child(process, process.stdin, process.stdout, process.stderr)


class Result(NamedTuple):
    """What a child returned; ``reasons`` has the reason of each log line (`log_lines.Line`)."""

    returncode: int
    answer: bytes
    reasons: list[str]


async def run(arguments: list[str], seconds: float, *, module: str = "chatsite.engine") -> Result:
    """Run a child without input and return its answer, at most 1 MiB.

    Raise `TimeoutError` after ``seconds``. The child has ended when this returns, raises or is
    cancelled.
    """
    child = await start(arguments, module)
    child.stdin.close()
    reasons: list[str] = []
    listening = asyncio.create_task(
        read_lines(child.stderr, lambda line: reasons.append(log_lines.parse(line).reason))
    )
    answer = b""
    try:
        async with asyncio.timeout(seconds):
            while len(answer) < _ANSWER_MOST and (part := await child.stdout.read(1 << 16)):
                answer += part
            returncode = await child.process.wait()
            await listening
    finally:
        listening.cancel()
        with suppress(ProcessLookupError):
            child.process.kill()
        await child.process.wait()
    return Result(returncode, answer, reasons)


async def read_lines(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    """Call ``on_line`` with each line of a child's standard error until its end.

    A line above 64 KiB is passed on in parts: the child must never block on its log.
    """
    rest = b""
    while part := await stream.read(1 << 16):
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) >= 1 << 16:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                on_line(text)
    if rest:
        on_line(rest.decode(errors="replace").rstrip())


def exit_reason(returncode: int) -> str:
    """Return ``ended``, ``killed by SIGSEGV``, or ``exited with code 3``."""
    if returncode == 0:
        return "ended"
    if returncode > 0:
        return f"exited with code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
