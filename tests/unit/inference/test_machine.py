"""What processes of ours may take of a machine's memory."""

from __future__ import annotations

import pytest

from chatsite.inference.machine import Memory, memory, within

GB = 1 << 30
FREE = Memory(16 * GB, 12 * GB)

V2 = {
    "/proc/self/cgroup": "0::/a/b\n",
    "/sys/fs/cgroup/a/b/memory.max": "max\n",
    "/sys/fs/cgroup/a/memory.max": f"{8 * GB}\n",
    "/sys/fs/cgroup/a/memory.current": f"{5 * GB}\n",
    "/sys/fs/cgroup/a/memory.stat": f"anon {3 * GB}\nfile {2 * GB}\n",
}
V1 = {
    "/proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/x\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": f"{2 * GB}\n",
    "/sys/fs/cgroup/memory/x/memory.usage_in_bytes": f"{2 * GB}\n",
    "/sys/fs/cgroup/memory/x/memory.stat": f"cache 5\ntotal_cache {GB}\n",
}


@pytest.mark.parametrize(
    ("files", "found"),
    [({}, FREE), (V2, Memory(8 * GB, 5 * GB)), (V1, Memory(2 * GB, GB))],
)
def test_the_tightest_limit_counts(files, found):
    assert within(FREE, files.get) == found


def test_a_reserve_stays():
    assert Memory(64 * GB, 0).budget == 56 * GB
    assert Memory(8 * GB, 0).budget == 8 * GB - (3 << 29)
    assert Memory(2 * GB, 0).budget == GB


def test_this_machine():
    found = memory()
    assert 0 < found.available <= found.total
