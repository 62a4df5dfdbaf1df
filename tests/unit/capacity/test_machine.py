"""How much of a machine's memory the product's processes may use."""

from __future__ import annotations

import pytest

from chatsite.capacity.machine import MachineMemory, memory, within

GB = 1 << 30
FREE = MachineMemory(16 * GB, 12 * GB)

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
    [({}, FREE), (V2, MachineMemory(8 * GB, 5 * GB)), (V1, MachineMemory(2 * GB, GB))],
)
def test_the_tightest_limit_counts(files, found):
    assert within(FREE, files.get) == found


def test_a_reserve_stays():
    assert MachineMemory(64 * GB, 0).budget == 56 * GB
    assert MachineMemory(8 * GB, 0).budget == 8 * GB - (3 << 29)
    assert MachineMemory(2 * GB, 0).budget == GB


def test_this_machine():
    found = memory()
    assert 0 < found.available <= found.total
