"""The memory of this machine, as far as processes of ours may use it. All sizes in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import psutil

from chatsite.engine.threads import group_folders, read_text

# Left for the system, the database, Redis and the web server.
_LEAST_RESERVE: Final = 3 << 29
_RESERVE_SHARE: Final = 8
# A limit of this size is none: cgroups version 1 say so with the largest number they know.
_NO_LIMIT: Final = 1 << 60


class Memory(msgspec.Struct, frozen=True):
    """``total`` and ``available`` now, both within the control group's limit if it has one."""

    total: int
    available: int

    @property
    def budget(self) -> int:
        """What models may take where nobody set it: all but an eighth, which is at least
        1.5 GiB, and never less than half."""
        reserve = max(self.total // _RESERVE_SHARE, _LEAST_RESERVE)
        return self.total - min(reserve, self.total // 2)


def memory() -> Memory:
    found = psutil.virtual_memory()
    return within(Memory(found.total, found.available), read_text)


def resident(pid: int | None) -> int:
    """What a process holds now; 0 for one that is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0


def within(memory: Memory, read: Callable[[str], str | None]) -> Memory:
    """``memory`` cut to the tightest limit over this process's control groups and their parents.
    ``read`` gives the text of a file, or None."""
    total, available = memory.total, memory.available
    for limit, used in _groups(read):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Memory(total, available)


def _groups(read: Callable[[str], str | None]) -> Iterator[tuple[int, int]]:
    """Limit and use of each group that has a limit; what it keeps of files can be dropped."""
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
    """None for ``max`` too."""
    return int(text) if text and text.strip().isdigit() else None


def _kept(text: str | None, name: str) -> int:
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value) or 0
    return 0
