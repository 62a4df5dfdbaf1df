"""How many threads a model may use: what the kernel lets this process run, not what is there.

More threads than the quota of a container allows wait for each other: 2 CPUs of quota on a
machine of 16 ran four times slower with 16 threads than with 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath


def default_threads() -> int:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return thread_count(affinity or 1, cgroup_quota(read_text))


def thread_count(affinity: int, quota: float | None) -> int:
    """``affinity`` in CPUs, ``quota`` in CPUs (2.5 is two and a half) or None for no limit."""
    return max(1, int(affinity if quota is None else min(affinity, quota)))


def cgroup_quota(read: Callable[[str], str | None]) -> float | None:
    """The tightest CPU quota over this process's control groups, versions 1 and 2, and their
    parents. ``read`` gives the text of a file, or None."""
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
    """Folders of a group and its parents. A container may see its own group as the root, under
    the path that the host knows: folders that are not there are skipped by who reads."""
    group = PurePosixPath(path.strip("/"))
    return [f"{root}/{folder}".removesuffix("/.") for folder in (group, *group.parents)]


def _v2(text: str | None) -> list[float]:
    """``max 100000`` or ``250000 100000``: quota and period in microseconds."""
    fields = (text or "").split()
    if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit() and int(fields[1]):
        return [int(fields[0]) / int(fields[1])]
    return []


def _v1(quota: str | None, period: str | None) -> list[float]:
    """A quota of -1 is none."""
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
