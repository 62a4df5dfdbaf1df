"""Keeps processes running: starts, restarts with back-off, ends without leaving an orphan."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from chatsite.supervisor import leftovers, logstream
from chatsite.supervisor.backoff import Backoff
from chatsite.supervisor.child import PARENT_VARIABLE
from chatsite.supervisor.leftovers import Register
from chatsite.supervisor.logstream import Output
from chatsite.supervisor.processes import ProcessSpec

_LAUNCH = str(Path(__file__).with_name("launch.py"))
_POLL_SECONDS = 0.02
_SITE_POLL_SECONDS = 0.1
_DRAIN_SECONDS = 0.5
_STILL_WAITING_SECONDS = 30.0
# `make` and `timeout` pass on a signal that its sender gave to all of us: no second one.
_SAME_SIGNAL_SECONDS = 0.5
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def describe_exit(code: int) -> str:
    """``code`` as `subprocess` gives it: negative for a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """One run over ``specs``. ``probe`` tells whether the whole works; ``on_ready`` is called
    once, when it first does."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        output: Output,
        register: Register,
        *,
        probe: Callable[[], Awaitable[bool]],
        on_ready: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._stages = [list(stage) for _, stage in groupby(sorted(specs, key=_stage), key=_stage)]
        self._output = output
        self._register = register
        self._probe = probe
        self._on_ready = on_ready
        self._backoff = backoff or Backoff()
        self._alive: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        # A child exists before we know its process id; orphans are looked for between starts.
        self._starting = asyncio.Lock()
        self._told_at: float | None = None
        self._hurry = False

    async def run(self) -> None:
        """Serves until a signal of ``_ENDING``, or `stop`; a second signal hurries the end."""
        leftovers.adopt_orphans()
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self._on_signal, number)
        start = self._task(self._start_all())
        try:
            await self._stopping.wait()
        finally:
            self._stopping.set()
            start.cancel()
            for stage in reversed(self._stages):
                await asyncio.gather(*(self._end(spec) for spec in stage))
            await leftovers.end_orphans(self._pids)
            self._register.write(())
        for task in (start, *self._keepers.values()):
            if not task.cancelled() and (fault := task.exception()):
                raise fault

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A fault of our own in ``work`` ends the run, which then raises it."""
        task = asyncio.create_task(work)
        task.add_done_callback(
            lambda done: self.stop() if not done.cancelled() and done.exception() else None
        )
        return task

    def stop(self) -> None:
        self._stopping.set()

    def _on_signal(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
            self._output.say(f"Ending all processes ({number.name}).")
            self.stop()
        elif now - self._told_at >= _SAME_SIGNAL_SECONDS:
            self._hurry = True
            for process in self._alive.values():
                leftovers.kill_group(process.pid)

    # Start.

    async def _start_all(self) -> None:
        for stage in self._stages:
            for spec in stage:
                self._keepers[spec.name] = self._task(self._keep(spec))
            await self._all_ready(stage)
        await self._tell_ready()

    async def _keep(self, spec: ProcessSpec) -> None:
        """Runs one process again and again until the supervisor ends."""
        backoff = self._backoff
        while not self._stopping.is_set():
            started = time.monotonic()
            reason = await self._run_once(spec)
            if self._stopping.is_set():
                return
            delay, backoff = backoff.after(time.monotonic() - started)
            self._output.say(
                f"{spec.name} ended ({reason}); starting it again in {delay:.1f} s.", "ERROR"
            )
            try:
                await asyncio.wait_for(self._stopping.wait(), delay)
            except TimeoutError:
                continue

    async def _run_once(self, spec: ProcessSpec) -> str:
        """Returns why the process ended, when nothing of it is left."""
        async with self._starting:
            if self._stopping.is_set():
                return "ending"
            read_end, write_end = os.pipe()
            try:
                process = await self._spawn(spec, write_end)
            except OSError as error:
                os.close(read_end)
                return f"could not be started: {error}"
            finally:
                os.close(write_end)
            self._alive[spec.name] = process
            self._register.write(self._pids())
        pump = asyncio.create_task(self._pump(spec, read_end))
        code = await process.wait()
        async with self._starting:
            del self._alive[spec.name]
            leftovers.kill_group(process.pid)
            await leftovers.end_orphans(self._pids)
            self._register.write(self._pids())
        await asyncio.wait([pump], timeout=_DRAIN_SECONDS)
        pump.cancel()
        return describe_exit(code)

    async def _spawn(self, spec: ProcessSpec, output: int) -> asyncio.subprocess.Process:
        """In a session of its own: Ctrl-C on the terminal reaches the supervisor alone."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _LAUNCH, str(os.getpid())),
            *spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **spec.env, PARENT_VARIABLE: str(os.getpid())},
        )

    async def _pump(self, spec: ProcessSpec, read_end: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
        )
        try:
            async for line in logstream.lines(reader):
                self._output.put(logstream.parse(line, spec.name, time.time()))
        finally:
            transport.close()

    def _pids(self) -> set[int]:
        return {process.pid for process in self._alive.values()}

    # Readiness.

    async def _all_ready(self, stage: Sequence[ProcessSpec]) -> None:
        for spec in stage:
            while spec.ready and not await spec.ready():
                await asyncio.sleep(_POLL_SECONDS)

    async def _tell_ready(self) -> None:
        began = reminded = time.monotonic()
        while not await self._probe():
            now = time.monotonic()
            if now - reminded >= _STILL_WAITING_SECONDS:
                reminded = now
                self._output.say(f"Not ready yet after {now - began:.0f} s.", "WARNING")
            await asyncio.sleep(_SITE_POLL_SECONDS)
        self._on_ready()

    # End.

    async def _end(self, spec: ProcessSpec) -> None:
        """Returns when the process and all below it are gone."""
        keeper = self._keepers.get(spec.name)
        if keeper is None:
            return
        async with self._starting:  # a start under way comes to its end first
            process = self._alive.get(spec.name)
        if process is not None:
            leftovers.with_signal(process.pid, signal.SIGTERM)
        _, slow = await asyncio.wait([keeper], timeout=0 if self._hurry else spec.stop_seconds)
        if slow and process is not None:
            self._output.say(f"{spec.name} does not end by itself; killing it.", "WARNING")
            leftovers.kill_group(process.pid)
        await asyncio.wait([keeper])


def _stage(spec: ProcessSpec) -> int:
    return spec.stage
