"""A seccomp filter against system calls that a child never needs after its start.

The filter is a classic BPF program for x86-64 and arm64. It denies listed calls and allows the
rest: drivers and libraries use different calls on different systems, and a call that fails with
EPERM is an error that they handle. Kernels from 5.11 on cache which calls are always allowed, so
ordinary calls cost nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final, NamedTuple

from chatsite.sandbox.libc import system_call

# Numbers on x86-64 and arm64 (`asm/unistd_64.h`, `asm-generic/unistd.h`); None where the call does
# not exist.
CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    # No connections. Open file descriptors still work.
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # No access to other processes: memory, file descriptors, signals, System V and POSIX IPC.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # No other programs.
    "execve": (59, 221),
    "execveat": (322, 281),
    # No other file systems, and no root in a user namespace.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # Metadata, which Landlock does not cover.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "truncate": (76, 45),
    # Unused kernel interfaces; io_uring would bypass this filter.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    # Filtered by argument.
    "clone": (56, 220),
    "clone3": (435, 435),
    "fork": (57, None),
    "vfork": (58, None),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
    "socketpair": (53, 199),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "seccomp": (317, 277),
}
BY_ARGUMENT: Final = frozenset(
    {
        *("clone", "clone3", "fork", "vfork", "kill", "tgkill", "prlimit64", "socketpair"),
        *("fcntl", "ioctl", "prctl", "seccomp"),
    }
)
ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# linux/seccomp.h, linux/prctl.h
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1
_ALLOW: Final = 0x7FFF0000
_ERROR: Final = 0x00050000
_KILL: Final = 0x80000000
_PR_SET_PDEATHSIG: Final = 1

# Offsets in `struct seccomp_data`; arguments have 64 bits, the low half first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT: Final = 0x40000000

# linux/filter.h
_LOAD, _RETURN, _AND = 0x20, 0x06, 0x54
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45

_THREAD: Final = 0x00010000  # CLONE_THREAD
_NAMESPACES: Final = 0x7E020000
_SOCKET_TYPE: Final = 0xF
_AF_UNIX, _STREAM, _SEQPACKET = 1, 1, 5
# F_SETOWN, F_SETSIG, F_SETOWN_EX: make the kernel signal other processes.
_FCNTL: Final = (8, 10, 15)
# FIOSETOWN, SIOCSPGRP: the same; TIOCSTI, TIOCLINUX: inject terminal input.
_IOCTL: Final = (0x8901, 0x8902, 0x5412, 0x541C)


class Instruction(NamedTuple):
    """A BPF instruction; ``when`` and ``otherwise`` are the numbers of instructions to skip."""

    code: int
    value: int
    when: int = 0
    otherwise: int = 0


class Unsupported(OSError):
    """There is no filter for this CPU or system."""


def program(machine: str, pid: int, *, forks: bool, devices: bool) -> list[Instruction]:
    """Return the filter for process ``pid`` on ``machine`` (as `platform.machine`).

    ``forks`` allows forks. ``devices`` allows the process its own Unix sockets, which graphics
    drivers bind, but no connections to others. Raise `Unsupported`.
    """
    if machine not in ARCHITECTURES:
        raise Unsupported(errno.ENOSYS, f"not supported on {machine}")
    column, architecture = ARCHITECTURES[machine]
    made = [
        Instruction(_LOAD, _ARCHITECTURE),
        Instruction(_EQUAL, architecture, when=1),
        Instruction(_RETURN, _KILL),
        Instruction(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        made += [Instruction(_AT_LEAST, _X32_BIT, otherwise=1), _denied(errno.ENOSYS)]
    rules = _rules(pid, forks=forks, devices=devices)
    for name, numbers in CALLS.items():
        number = numbers[column]
        rule = rules.get(name, [] if name in BY_ARGUMENT else [_denied()])
        if number is not None and rule:
            made += [Instruction(_EQUAL, number, otherwise=len(rule)), *rule]
    return [*made, Instruction(_RETURN, _ALLOW)]


def install(*, forks: bool = False, devices: bool = False) -> None:
    """Install the filter on all threads of this process, irrevocably.

    ``no_new_privs`` must be set. Raise OSError.
    """
    if not sys.platform.startswith("linux"):
        raise Unsupported(errno.ENOSYS, f"not supported on {sys.platform}")
    machine = platform.machine()
    made = program(machine, os.getpid(), forks=forks, devices=devices)
    code = b"".join(
        struct.pack("=HBBI", one.code, one.when, one.otherwise, one.value) for one in made
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(made), ctypes.addressof(buffer))
    number = CALLS["seccomp"][ARCHITECTURES[machine][0]]
    assert number is not None  # noqa: S101  (both have it)
    system_call(number, _SET_MODE_FILTER, _ALL_THREADS, header)


def _rules(pid: int, *, forks: bool, devices: bool) -> dict[str, list[Instruction]]:
    """Return the instructions for calls that are filtered by argument."""
    # Its flags are behind a pointer, which a filter can't read; on ENOSYS libc uses `clone`.
    rules = {"clone3": [_denied(errno.ENOSYS)]}
    rules["kill"] = rules["tgkill"] = _only(0, pid)
    rules["prlimit64"] = _only(0, 0, pid)
    # A datagram socket could send to any socket.
    rules["socketpair"] = _only(1, _STREAM, mask=_SOCKET_TYPE)
    rules["fcntl"] = _without(1, *_FCNTL)
    rules["ioctl"] = _without(1, *_IOCTL)
    namespaces = [
        _argument(0),
        Instruction(_ANY_BIT, _NAMESPACES, otherwise=1),
        _denied(),
    ]
    if forks:
        rules["clone"] = [*namespaces, Instruction(_RETURN, _ALLOW)]
    else:
        thread = Instruction(_ANY_BIT, _THREAD, when=1)
        rules["clone"] = [*namespaces, thread, _denied(), Instruction(_RETURN, _ALLOW)]
        rules["fork"] = rules["vfork"] = [_denied()]
        # Dying with the parent must not be disabled.
        rules["prctl"] = _without(0, _PR_SET_PDEATHSIG)
    if devices:
        of_unix = [_argument(0), Instruction(_EQUAL, _AF_UNIX, when=1), _denied()]
        rules["socket"] = [*of_unix, *_only(1, _STREAM, _SEQPACKET, mask=_SOCKET_TYPE)]
        for name in ("bind", "listen", "accept", "accept4"):
            rules[name] = [Instruction(_RETURN, _ALLOW)]
    return rules


def _only(position: int, *values: int, mask: int = 0) -> list[Instruction]:
    """Return instructions that allow the call only with one of ``values`` in that argument."""
    masked = [Instruction(_AND, mask)] if mask else []
    tests = [
        Instruction(_EQUAL, value, when=len(values) - number) for number, value in enumerate(values)
    ]
    return [_argument(position), *masked, *tests, _denied(), Instruction(_RETURN, _ALLOW)]


def _without(position: int, *values: int) -> list[Instruction]:
    """Return instructions that deny the call with one of ``values`` in that argument."""
    tests = [
        Instruction(_EQUAL, value, when=len(values) - number) for number, value in enumerate(values)
    ]
    return [_argument(position), *tests, Instruction(_RETURN, _ALLOW), _denied()]


def _argument(position: int) -> Instruction:
    return Instruction(_LOAD, _ARGUMENTS + 8 * position)


def _denied(error: int = errno.EPERM) -> Instruction:
    return Instruction(_RETURN, _ERROR | error)
