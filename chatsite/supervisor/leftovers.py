"""Processes that nobody looks after: of an earlier start, and orphans below our own.

The supervisor writes down each child. A start that finds some alive, since the supervisor
before it was killed, ends them first: two Redis servers on one folder would destroy it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_CREATED_TOLERANCE_SECONDS = 0.05
_TERM_SECONDS = 6.0
_ORPHAN_ROUNDS = 100


class Register:
    """The children alive, in ``path``. A process is known by its id and time of creation."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, pids: Iterable[int]) -> None:
        entries = []
        for pid in pids:
            try:
                entries.append([pid, psutil.Process(pid).create_time()])
            except psutil.NoSuchProcess:
                continue
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(entries))
        fresh.replace(self._path)

    def alive(self) -> list[psutil.Process]:
        try:
            entries = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return []
        found = []
        for pid, created in entries:
            try:
                process = psutil.Process(pid)
                if abs(process.create_time() - created) < _CREATED_TOLERANCE_SECONDS:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def end_all(self, say: Callable[[str], None]) -> None:
        """Ends what an earlier start left, politely for ``_TERM_SECONDS``, then with its group."""
        left = self.alive()
        if not left:
            return
        say(f"Ending {len(left)} processes that an earlier start left behind.")
        for process in left:
            with_signal(process.pid, signal.SIGTERM)
        _, stubborn = psutil.wait_procs(left, timeout=_TERM_SECONDS)
        for process in stubborn:
            kill_group(process.pid)
        psutil.wait_procs(stubborn, timeout=2)


def with_signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill_group(leader: int) -> None:
    """SIGKILL to all of a child's process group; each child leads one of its own."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def adopt_orphans() -> None:
    """From now on processes below us whose parent ends become our children (Linux), instead of
    init's, so that `end_orphans` finds them in whatever session or group they are."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def end_orphans(keep: Callable[[], set[int]]) -> None:
    """Kills and reaps all children of this process but those in ``keep()``, then what their
    deaths turn into orphans, until there are none."""
    for _ in range(_ORPHAN_ROUNDS):
        orphans = [child for child in psutil.Process().children() if child.pid not in keep()]
        if not orphans:
            return
        for orphan in orphans:
            with_signal(orphan.pid, signal.SIGKILL)
            try:
                os.waitpid(orphan.pid, os.WNOHANG)  # noqa: ASYNC222  (does not wait)
            except ChildProcessError:
                pass
        await asyncio.sleep(0.01)
