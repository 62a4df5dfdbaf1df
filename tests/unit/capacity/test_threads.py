from __future__ import annotations

import pytest

from chatsite.capacity.threads import cgroup_quota, default_threads, thread_count


@pytest.mark.parametrize(
    ("affinity", "quota", "threads"),
    [(8, None, 8), (8, 2.0, 2), (8, 2.9, 2), (2, 16.0, 2), (8, 0.5, 1), (1, None, 1)],
)
def test_threads_are_what_affinity_and_quota_allow(affinity, quota, threads):
    assert thread_count(affinity, quota) == threads


def quota(files: dict[str, str]) -> float | None:
    return cgroup_quota(files.get)


def test_no_control_group_is_no_quota():
    assert quota({}) is None


def test_version_2_of_the_group_and_its_parents():
    files = {
        "/proc/self/cgroup": "0::/system.slice/chat.service\n",
        "/sys/fs/cgroup/system.slice/chat.service/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/system.slice/cpu.max": "250000 100000\n",
        "/sys/fs/cgroup/cpu.max": "400000 100000\n",
    }
    assert quota(files) == 2.5


def test_version_2_in_a_container_that_sees_its_group_as_the_root():
    files = {
        "/proc/self/cgroup": "0::/\n",
        "/sys/fs/cgroup/cpu.max": "150000 100000\n",
    }
    assert quota(files) == 1.5


def test_version_1():
    files = {
        "/proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
        "/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert quota(files) == 2.0


@pytest.mark.parametrize("text", ["", "max", "-1 100000", "100000 0", "a b", "1 2 3"])
def test_nonsense_is_no_quota(text):
    assert quota({"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": text}) is None


def test_this_machine_allows_a_thread():
    assert default_threads() >= 1
