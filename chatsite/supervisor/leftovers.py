"""Processes that no supervisor manages: those of an earlier start, and orphans of children.

The supervisor records each child. If the previous supervisor was killed and children are still
alive, a start ends them first: two Redis servers on one folder would destroy it.
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
    """The live children, stored in ``path``; identified by process ID and creation time."""

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

    def end_all(self, say: Callable[..., None]) -> None:
        """End processes of an earlier start: SIGTERM, then SIGKILL to their groups."""
        left = self.alive()
        if not left:
            return
        say("Stopping processes of an earlier start", count=len(left))
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
    """Send SIGKILL to a child's process group, which each child leads."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def adopt_orphans() -> None:
    """Make this process the subreaper of its descendants (Linux).

    Orphans become its children instead of init's, so that `end_orphans` finds them in any session
    or group.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(keep: Callable[[], set[int]]) -> None:
    """Reap adopted processes that have ended. Those in ``keep()`` are reaped by asyncio."""
    while (ended := _first_ended_child()) is not None:
        if ended in keep():
            # The kernel reports this one until asyncio reaps it, so check the others by ID.
            for child in psutil.Process().children():
                if child.pid not in keep():
                    _reap_if_ended(child.pid)
            return
        _reap_if_ended(ended)


def _first_ended_child() -> int | None:
    """Return the ID of a child that can be reaped, without reaping it; None without one."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended else None


def _reap_if_ended(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # reaped meanwhile
        pass


async def end_orphans(keep: Callable[[], set[int]]) -> None:
    """Kill and reap all children except those in ``keep()``, and the orphans that this creates.

    Repeats until none is left.
    """
    for _ in range(_ORPHAN_ROUNDS):
        orphans = [child for child in psutil.Process().children() if child.pid not in keep()]
        if not orphans:
            return
        for orphan in orphans:
            with_signal(orphan.pid, signal.SIGKILL)
            _reap_if_ended(orphan.pid)
        await asyncio.sleep(0.01)
