"""Keeps processes running: starts, restarts with backoff, and ends without orphans."""

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
from chatsite.supervisor.watchdog import wait_for_hang

_LAUNCH = str(Path(__file__).with_name("launch.py"))
_POLL_SECONDS = 0.02
_SITE_POLL_SECONDS = 0.1
_DRAIN_SECONDS = 0.5
_REAP_SECONDS = 5.0
_STILL_WAITING_SECONDS = 30.0
# `make` and `timeout` forward a signal that the whole group has received: not a second one.
_SAME_SIGNAL_SECONDS = 0.5
# Variables that contain no secrets.
_HARMLESS = frozenset({"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ", "HOME", "TMPDIR"})
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Exit codes of processes ended from outside: in good order, or by a signal that is no crash.
_ENDED_BY_OTHERS = {0, *(-number for number in (*_ENDING, signal.SIGKILL))}


def describe_exit(code: int) -> str:
    """Describe an exit code as in `subprocess`: negative for a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """One run of ``specs``.

    ``probe`` tells whether the site works; ``on_ready`` is called once, when it first does. A
    process without a sign of life for ``hang_seconds`` is killed and restarted; 0 disables that.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        output: Output,
        register: Register,
        *,
        probe: Callable[[], Awaitable[bool]],
        on_ready: Callable[[], None],
        hang_seconds: float = 0,
        backoff: Backoff | None = None,
    ) -> None:
        self._stages = [list(stage) for _, stage in groupby(sorted(specs, key=_stage), key=_stage)]
        self._output = output
        self._register = register
        self._probe = probe
        self._on_ready = on_ready
        self._hang_seconds = hang_seconds
        self._backoff = backoff or Backoff()
        self._alive: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        # A child exists before its process ID is known, so orphans are collected between starts.
        self._starting = asyncio.Lock()
        self._first_signal_at: float | None = None
        self._hurry = False

    async def run(self) -> None:
        """Run until a signal of ``_ENDING`` or `stop`; a second signal skips the grace periods."""
        leftovers.adopt_orphans()
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self._on_signal, number)
        start = self._task(self._start_all())
        reaping = self._task(self._reap())
        try:
            await self._stopping.wait()
        finally:
            self._stopping.set()
            start.cancel()
            reaping.cancel()
            for stage in reversed(self._stages):
                await asyncio.gather(*(self._end(spec) for spec in stage))
            await leftovers.end_orphans(self._pids)
            self._write_register()
        for task in (start, reaping, *self._keepers.values()):
            if not task.cancelled() and (fault := task.exception()):
                raise fault

    async def _reap(self) -> None:
        """Reap the descendants of killed children, which are reparented to this process."""
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            async with self._starting:
                leftovers.reap_orphans(self._pids)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task. An exception in ``work`` ends the run, which then raises it."""
        task = asyncio.create_task(work)
        task.add_done_callback(
            lambda done: self.stop() if not done.cancelled() and done.exception() else None
        )
        return task

    def stop(self) -> None:
        self._stopping.set()

    def _on_signal(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if self._first_signal_at is None:
            self._first_signal_at = now
            self._output.say("Stopping all processes", signal=number.name)
            self.stop()
        elif now - self._first_signal_at >= _SAME_SIGNAL_SECONDS:
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
        """Run one process and restart it until the supervisor ends."""
        backoff, failures = self._backoff, 0
        while not self._stopping.is_set():
            started = time.monotonic()
            ready = asyncio.create_task(self._once_ready(spec))
            reason, at_fault = await self._run_once(spec)
            failures = failures + 1 if at_fault and not ready.done() else 0
            ready.cancel()
            if self._stopping.is_set():
                return
            if spec.repair and failures:
                await self._repair(spec, spec.repair, failures)
            delay, backoff = backoff.after(time.monotonic() - started)
            self._output.say(
                "Process ended; restarting it",
                "ERROR",
                name=spec.name,
                reason=reason,
                seconds=round(delay, 1),
            )
            try:
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _repair(
        self, spec: ProcessSpec, repair: Callable[[int], str | None], failures: int
    ) -> None:
        try:
            done = await asyncio.to_thread(repair, failures)
        except OSError as error:  # a full disk, for example: the next failure retries
            done = f"{spec.name} can't be repaired: {error}"
        if done:
            self._output.say("Process needed repair", "ERROR", name=spec.name, result=done)

    def _write_register(self) -> None:
        """Write the register, or log the failure; it is needed only after a crash."""
        try:
            self._register.write(self._pids())
        except OSError as error:
            self._output.say("List of processes can't be written", "WARNING", error=str(error))

    async def _run_once(self, spec: ProcessSpec) -> tuple[str, bool]:
        """Run a process until it and its descendants are gone.

        Return the reason, and whether it ended by a fault of its own.
        """
        async with self._starting:
            if self._stopping.is_set():
                return "ending", False
            read_end, write_end = os.pipe()
            try:
                process = await self._spawn(spec, write_end)
            except OSError as error:
                os.close(read_end)
                return f"could not be started: {error}", False
            finally:
                os.close(write_end)
            self._alive[spec.name] = process
            self._write_register()
        pump = asyncio.create_task(self._pump(spec, read_end))
        watch = asyncio.create_task(self._watch(spec, process.pid))
        code = await process.wait()
        watch.cancel()
        async with self._starting:
            del self._alive[spec.name]
            leftovers.kill_group(process.pid)
            await leftovers.end_orphans(self._pids)
            self._write_register()
        await asyncio.wait([pump], timeout=_DRAIN_SECONDS)
        pump.cancel()
        hung = watch.done() and not watch.cancelled() and watch.result()
        reason = f"{describe_exit(code)} after a hang" if hung else describe_exit(code)
        return reason, code not in _ENDED_BY_OTHERS

    async def _watch(self, spec: ProcessSpec, pid: int) -> bool:
        """Kill a process that hangs; return whether it did. SIGTERM would have no effect."""
        if spec.watch is None or not self._hang_seconds:
            return False
        while True:
            try:
                await wait_for_hang(spec.watch(), self._hang_seconds)
                break
            except Exception as error:  # noqa: BLE001  (a failed probe proves nothing)
                self._output.say(
                    "Process can't be watched", "WARNING", name=spec.name, error=repr(error)
                )
                await asyncio.sleep(_STILL_WAITING_SECONDS)
        self._output.say(
            "Process hangs; killing it", "ERROR", name=spec.name, seconds=self._hang_seconds
        )
        leftovers.kill_group(pid)
        return True

    async def _spawn(self, spec: ProcessSpec, output: int) -> asyncio.subprocess.Process:
        """Start it in a new session, so that Ctrl-C on the terminal reaches the supervisor only."""
        outer = dict(os.environ)
        if not spec.trusted:
            outer = {name: value for name, value in outer.items() if name in _HARMLESS}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _LAUNCH, str(os.getpid())),
            *spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**outer, **spec.env, PARENT_VARIABLE: str(os.getpid())},
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

    async def _once_ready(self, spec: ProcessSpec) -> None:
        while spec.ready and not await spec.ready():
            await asyncio.sleep(_POLL_SECONDS)

    async def _all_ready(self, stage: Sequence[ProcessSpec]) -> None:
        for spec in stage:
            await self._once_ready(spec)

    async def _tell_ready(self) -> None:
        began = reminded = time.monotonic()
        while not await self._probe():
            now = time.monotonic()
            if now - reminded >= _STILL_WAITING_SECONDS:
                reminded = now
                self._output.say("Not ready yet", "WARNING", seconds=round(now - began))
            await asyncio.sleep(_SITE_POLL_SECONDS)
        self._on_ready()

    # End.

    async def _end(self, spec: ProcessSpec) -> None:
        """End a process; return when it and its descendants are gone."""
        keeper = self._keepers.get(spec.name)
        if keeper is None:
            return
        async with self._starting:  # a start in progress completes first
            process = self._alive.get(spec.name)
        if process is not None:
            leftovers.with_signal(process.pid, signal.SIGTERM)
        _, slow = await asyncio.wait([keeper], timeout=0 if self._hurry else spec.stop_seconds)
        if slow and process is not None:
            self._output.say(
                "Process does not stop on SIGTERM; killing it", "WARNING", name=spec.name
            )
            leftovers.kill_group(process.pid)
        await asyncio.wait([keeper])


def _stage(spec: ProcessSpec) -> int:
    return spec.stage
