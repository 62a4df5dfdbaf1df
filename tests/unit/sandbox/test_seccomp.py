"""The filter's program in a BPF interpreter: for both architectures on any machine."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from chatsite.sandbox import seccomp

ALLOWED, KILLED = "allowed", "killed"
MACHINES = {"x86_64": 0, "aarch64": 1}
PID = 4242


def outcome(
    machine: str,
    name: str | int,
    *arguments: int,
    forks: bool = False,
    devices: bool = False,
    architecture: int | None = None,
) -> str | int:
    """Return `ALLOWED`, `KILLED` or the error number."""
    column, own = seccomp.ARCHITECTURES[machine]
    number = seccomp.CALLS[name][column] if isinstance(name, str) else name
    assert number is not None
    made = seccomp.program(machine, PID, forks=forks, devices=devices)
    data = {0: number, 4: own if architecture is None else architecture}
    for position, value in enumerate(arguments):
        data[16 + 8 * position] = value & 0xFFFFFFFF
    at = accumulator = 0
    while True:
        one = made[at]
        at += 1
        match one.code:
            case 0x20:
                accumulator = data.get(one.value, 0)
            case 0x54:
                accumulator &= one.value
            case 0x15:
                at += one.when if accumulator == one.value else one.otherwise
            case 0x35:
                at += one.when if accumulator >= one.value else one.otherwise
            case 0x45:
                at += one.when if accumulator & one.value else one.otherwise
            case 0x06:
                if one.value == 0x7FFF0000:
                    return ALLOWED
                return KILLED if one.value == 0x80000000 else one.value & 0xFFFF


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_listed_calls_fail_and_others_do_not(machine: str) -> None:
    column = MACHINES[machine]
    for name, numbers in seccomp.CALLS.items():
        if numbers[column] is not None and name not in seccomp.BY_ARGUMENT:
            assert outcome(machine, name) == errno.EPERM, name
    # read, write, futex, mmap; and numbers that no kernel uses yet.
    ordinary = (0, 1, 202, 9) if machine == "x86_64" else (63, 64, 98, 222)
    for number in (*ordinary, 600, 5000):
        assert outcome(machine, number) == ALLOWED


def test_another_processors_calls_end_the_process(machine: str) -> None:
    assert outcome(machine, 0, architecture=0x40000003) == KILLED
    if machine == "x86_64":
        assert outcome(machine, 0x40000000 + 41) == errno.ENOSYS


def test_only_the_process_itself_may_be_signalled(machine: str) -> None:
    for name in ("kill", "tgkill"):
        assert outcome(machine, name, PID, 6) == ALLOWED
        for other in (1, 0, -1, -PID, PID + 1):
            assert outcome(machine, name, other, 9) == errno.EPERM
    for command in (8, 10, 15):
        assert outcome(machine, "fcntl", 3, command) == errno.EPERM
    assert outcome(machine, "fcntl", 3, 3) == ALLOWED
    assert outcome(machine, "ioctl", 0, 0x5412) == errno.EPERM
    assert outcome(machine, "ioctl", 0, 0x5401) == ALLOWED
    assert outcome(machine, "prlimit64", 0, 7) == ALLOWED
    assert outcome(machine, "prlimit64", PID, 7) == ALLOWED
    assert outcome(machine, "prlimit64", 1, 7) == errno.EPERM


def test_threads_are_allowed_and_processes_only_with_forks(machine: str) -> None:
    thread, fork, namespace = 0x003D0F00, 0x01200011, 0x10000011
    assert outcome(machine, "clone", thread) == ALLOWED
    assert outcome(machine, "clone", fork) == errno.EPERM
    assert outcome(machine, "clone", fork, forks=True) == ALLOWED
    assert outcome(machine, "clone", namespace, forks=True) == errno.EPERM
    assert outcome(machine, "clone", thread | 0x10000000) == errno.EPERM
    assert outcome(machine, "clone3") == errno.ENOSYS  # the C library then uses clone
    assert outcome(machine, "prctl", 1, 0) == errno.EPERM  # it ends with its parent
    assert outcome(machine, "prctl", 1, 9, forks=True) == ALLOWED
    assert outcome(machine, "prctl", 15) == ALLOWED


def test_sockets_are_only_for_drivers_and_connect_to_nothing(machine: str) -> None:
    unix, inet, stream, datagram = 1, 2, 1, 2
    nonblocking = 0x80800
    assert outcome(machine, "socket", unix, stream) == errno.EPERM
    assert outcome(machine, "socket", unix, stream | nonblocking, devices=True) == ALLOWED
    assert outcome(machine, "socket", unix, datagram, devices=True) == errno.EPERM
    assert outcome(machine, "socket", inet, stream, devices=True) == errno.EPERM
    assert outcome(machine, "bind", 3, devices=True) == ALLOWED
    for devices in (False, True):
        assert outcome(machine, "connect", 3, devices=devices) == errno.EPERM
        assert outcome(machine, "socketpair", unix, stream, devices=devices) == ALLOWED
        assert outcome(machine, "socketpair", unix, datagram, devices=devices) == errno.EPERM


def test_another_processor_has_no_filter() -> None:
    with pytest.raises(seccomp.Unsupported, match="riscv64"):
        seccomp.program("riscv64", PID, forks=False, devices=False)


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def test_numbers_are_the_kernels(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    column = MACHINES[machine]
    checked = 0
    for name, numbers in seccomp.CALLS.items():
        if name in found:
            assert numbers[column] == int(found[name]), name
            checked += 1
    assert checked > 80
