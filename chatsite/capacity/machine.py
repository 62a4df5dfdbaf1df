"""The memory of this machine that the product's processes may use. All sizes in bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil

from chatsite.capacity.threads import group_folders, read_text

# Left for the system, the database, Redis and the web server.
_LEAST_RESERVE: Final = 3 << 29
_RESERVE_SHARE: Final = 8
# Values from here on mean no limit: cgroups version 1 express that as the largest number.
_NO_LIMIT: Final = 1 << 60


class MachineMemory(msgspec.Struct, frozen=True):
    """``total`` and ``available`` memory now, within the control group's limit if it has one."""

    total: int
    available: int

    @property
    def budget(self) -> int:
        """What models may take by default: all but a reserve.

        The reserve is an eighth of the memory, at least 1.5 GiB, and at most half.
        """
        reserve = max(self.total // _RESERVE_SHARE, _LEAST_RESERVE)
        return self.total - min(reserve, self.total // 2)


def memory() -> MachineMemory:
    found = psutil.virtual_memory()
    return within(MachineMemory(found.total, found.available), read_text)


def cpu() -> tuple[int, float]:
    """Return the number of processors and their share in use since the last call, 0 to 1."""
    return psutil.cpu_count() or 1, psutil.cpu_percent() / 100


def disk(path: Path) -> tuple[int, int] | None:
    """Return total and free bytes of the file system of ``path``; None if it can't be read."""
    try:
        found = shutil.disk_usage(path)
    except OSError:
        return None
    return found.total, found.free


def resident(pid: int | None) -> int:
    """Return the resident memory of a process; 0 if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0


def within(memory: MachineMemory, read: Callable[[str], str | None]) -> MachineMemory:
    """Return ``memory`` reduced to the tightest limit of this process's control groups.

    Parents of the groups count too. ``read`` returns the text of a file, or None.
    """
    total, available = memory.total, memory.available
    for limit, used in _groups(read):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return MachineMemory(total, available)


def _groups(read: Callable[[str], str | None]) -> Iterator[tuple[int, int]]:
    """Yield limit and use of each group with a limit; reclaimable page cache is not counted."""
    for line in (read("/proc/self/cgroup") or "").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            root, limit_file, used_file, cache = ("/sys/fs/cgroup", "max", "current", "file")
        elif "memory" in controllers.split(","):
            root, cache = "/sys/fs/cgroup/memory", "total_cache"
            limit_file, used_file = "limit_in_bytes", "usage_in_bytes"
        else:
            continue
        for folder in group_folders(root, path):
            limit = _number(read(f"{folder}/memory.{limit_file}"))
            if limit is None or limit >= _NO_LIMIT:
                continue
            used = _number(read(f"{folder}/memory.{used_file}")) or 0
            yield limit, max(0, used - _kept(read(f"{folder}/memory.stat"), cache))


def _number(text: str | None) -> int | None:
    """Return the number; None for other texts, such as ``max``."""
    return int(text) if text and text.strip().isdigit() else None


def _kept(text: str | None, name: str) -> int:
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value) or 0
    return 0
