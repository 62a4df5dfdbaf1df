"""Measures the CPU time that other processes took during a measurement."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/stat")
# Fields of the first line of /proc/stat, in ticks of all CPUs: everything but idle and iowait.
# `steal` is the time that the hypervisor gave to other machines.
_BUSY: Final = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal


def _read() -> str:
    try:
        return _STAT.read_text()
    except OSError:  # another system, or a sandbox that hides it
        return ""


class Disturbance:
    """Measures from its creation to the call of `share`."""

    def __init__(
        self,
        read: Callable[[], str] = _read,
        clock: Callable[[], float] = time.perf_counter,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        self._read, self._clock, self._own = read, clock, own
        self._began = self._now()

    def share(self) -> float:
        """Return the share of CPU time taken by others, from 0 to 1.

        It is the time of other processes and the time stolen by the hypervisor, divided by the time
        of all CPUs. 0 where the system does not report it.
        """
        (clock, busy, own), (began, busy_before, own_before) = self._now(), self._began
        if busy is None or busy_before is None or clock <= began:
            return 0.0
        others = (busy - busy_before) - (own - own_before)
        return min(max(others / ((clock - began) * (os.cpu_count() or 1)), 0.0), 1.0)

    def _now(self) -> tuple[float, float | None, float]:
        """Return seconds: of the clock, of busy time of all CPUs, of this process's CPU time."""
        fields = self._read().partition("\n")[0].split()[1:]
        busy = None
        if len(fields) > max(_BUSY) and all(field.isdigit() for field in fields):
            busy = sum(int(fields[at]) for at in _BUSY) / os.sysconf("SC_CLK_TCK")
        return self._clock(), busy, self._own()
