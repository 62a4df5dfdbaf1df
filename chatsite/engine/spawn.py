"""How engine children are started, and how their ends are told. Nothing of the host's secrets
reaches a child: its environment is made of the few variables named here."""

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

from chatsite.engine.frames import MAX_FRAME

_PASSED_ON = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "TZ"),
    # Which devices of the machine are ours, in the words of their makers, and where drivers are.
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "CUDA_CACHE_PATH"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"),
    *("GGML_VK_VISIBLE_DEVICES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES", "ONEAPI_DEVICE_SELECTOR"),
)
_FIXED = {
    # llama.cpp's threads meet some thousand times a step, so they must spin for a moment (with
    # a passive wait policy throughput halves), and no OMP_* variable is passed on. But GNU
    # OpenMP spins 300,000 rounds by default, and a thread may wait out its time slice for one
    # that has no CPU. 1,000 rounds are as fast on free cores; with other busy processes on two
    # cores, steps were 2 to 20 times shorter.
    "GOMP_SPINCOUNT": "1000",
    # llama_cpp imports numpy, which would start a thread per core and computes nothing here.
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    # Without it a failed assertion starts a debugger, which takes seconds and finds nothing.
    "GGML_NO_BACKTRACE": "1",
}

_ANSWER_MOST = 1 << 20

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(outer: Mapping[str, str] = os.environ) -> dict[str, str]:
    return {name: outer[name] for name in _PASSED_ON if name in outer} | _FIXED


class Child(NamedTuple):
    process: Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader


async def start(arguments: list[str], module: str = "chatsite.engine") -> Child:
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
        limit=MAX_FRAME,
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("a child without pipes")
    return Child(process, process.stdin, process.stdout, process.stderr)


class Said(NamedTuple):
    """``words`` are the lines of the child's standard error."""

    returncode: int
    answer: bytes
    words: list[str]


async def ask(arguments: list[str], seconds: float, *, module: str = "chatsite.engine") -> Said:
    """Runs a child that gets no frames and gives one answer, of a MiB at most. Raises
    `TimeoutError` after ``seconds``. The child has ended when this returns, raises or is
    cancelled."""
    child = await start(arguments, module)
    child.stdin.close()
    words: list[str] = []
    listening = asyncio.create_task(read_lines(child.stderr, words.append))
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
    return Said(returncode, answer, words)


async def read_lines(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    """Hands over each line of a child's standard error until its end. Parts of a line above
    64 KiB are handed over as lines of their own: the child must never block on its log."""
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
    """``ended``, ``killed by SIGSEGV``, or ``exited with code 3``."""
    if returncode == 0:
        return "ended"
    if returncode > 0:
        return f"exited with code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
