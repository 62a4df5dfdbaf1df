"""How many threads a model may use: the CPUs granted to this process, not all of the machine.

More threads than a container's quota allows wait for each other: with a quota of 2 CPUs on a 16-CPU
machine, 16 threads ran four times slower than 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath


def default_threads() -> int:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return thread_count(affinity or 1, cgroup_quota(read_text))


def thread_count(affinity: int, quota: float | None) -> int:
    """Return the number of threads; ``quota`` in CPUs, such as 2.5, or None for no limit."""
    return max(1, int(affinity if quota is None else min(affinity, quota)))


def cgroup_quota(read: Callable[[str], str | None]) -> float | None:
    """Return the tightest CPU quota of this process's control groups, in CPUs; None without one.

    Reads versions 1 and 2, and the groups' parents. ``read`` returns the text of a file, or None.
    """
    quotas: list[float] = []
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for folder in group_folders("/sys/fs/cgroup", path):
                quotas += _v2(read(f"{folder}/cpu.max"))
        elif "cpu" in controllers.split(","):
            for root in ("/sys/fs/cgroup/cpu", f"/sys/fs/cgroup/{controllers}"):
                for folder in group_folders(root, path):
                    quotas += _v1(
                        read(f"{folder}/cpu.cfs_quota_us"), read(f"{folder}/cpu.cfs_period_us")
                    )
    return min(quotas, default=None)


def group_folders(root: str, path: str) -> list[str]:
    """Return the folders of a group and its parents.

    A container may see its own group as the root, under the host's path: callers skip folders
    that don't exist.
    """
    group = PurePosixPath(path.strip("/"))
    return [f"{root}/{folder}".removesuffix("/.") for folder in (group, *group.parents)]


def _v2(text: str | None) -> list[float]:
    """Return the quota of ``max 100000`` or ``250000 100000``: quota and period in microseconds."""
    fields = (text or "").split()
    if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit() and int(fields[1]):
        return [int(fields[0]) / int(fields[1])]
    return []


def _v1(quota: str | None, period: str | None) -> list[float]:
    """Return the quota in CPUs; -1 means none."""
    try:
        limit, each = int(quota or ""), int(period or "")
    except ValueError:
        return []
    return [limit / each] if limit > 0 and each > 0 else []


def read_text(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None
