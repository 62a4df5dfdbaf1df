"""The sandbox of processes that read untrusted data: model files, templates, documents.

A child needs its pipes, Python's libraries and at most one file. `enter` removes access to
everything else by every mechanism of the system: Landlock or a mount namespace for files, a seccomp
filter and a network namespace for connections and other processes, and privileges that can't be
regained. Each layer is optional; `Protection` reports which are active.
docs/explanation/security.md has the table.

``python -m chatsite.sandbox.confine`` tests from inside what a child must not be able to do; see
`main`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from chatsite.sandbox import landlock, mount_namespace, seccomp, spawn
from chatsite.sandbox.libc import check, libc
from chatsite.sandbox.protection import (
    HIDDEN_MEMORY,
    LANDLOCK,
    MOUNTS,
    NETWORK,
    NO_CAPABILITIES,
    NO_NEW_PRIVILEGES,
    SECCOMP,
    SEPARATE_USER,
    Protection,
)

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

_CAPABILITIES_VERSION: Final = 0x20080522
_CAP_DAC_OVERRIDE: Final = 1 << 1

_TRIAL_SECONDS: Final = 30.0
# Above all user IDs that systems assign.
_FIRST_USER: Final = 1_000_000_000

_PACKAGE: Final = Path(__file__).resolve().parents[1]

# Libraries and the files that they read when they are loaded.
_READ: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime"),
    *("/usr/share/zoneinfo", "/usr/share/locale", "/etc/mime.types"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/sys/devices/system"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)
_WRITE: Final = ("/dev/null",)
# Files and devices of the graphics drivers of all vendors.
_DRIVERS_READ: Final = (
    *("/proc/driver", "/proc/devices", "/proc/modules", "/proc/filesystems", "/proc/version"),
    *("/proc/self", "/sys", "/etc/OpenCL", "/etc/vulkan", "/usr/share/vulkan"),
    *("/usr/share/glvnd", "/usr/share/libdrm", "/usr/share/drirc.d", "/usr/share/nvidia"),
    *("/usr/local", "/opt/rocm", "/opt/intel", "/run/opengl-driver"),
)
_DRIVERS_USE: Final = ("/dev/dri", "/dev/kfd", "/dev/nvidia-caps", "/dev/dxg")


def take_pipe() -> tuple[int, int]:
    """Return file descriptors for frames in and out.

    Standard output becomes standard error, so that a library's output can't come between two
    frames. Standard input becomes empty.
    """
    frames_in, frames_out = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return frames_in, frames_out


def follow_parent() -> None:
    """Die with the parent, and ignore Ctrl-C, which the parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def hide_memory() -> None:
    """Protect memory, environment and file descriptors from other processes of the same user.

    Root still has access. Also disables core dumps. For processes that hold secrets.
    """
    if sys.platform.startswith("linux"):
        libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def enter(
    *,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    devices: bool = False,
    forks: bool = False,
) -> Protection:
    """Enter the sandbox, and return its active layers.

    The process gives up all connections, all other processes, and all files but Python's libraries,
    ``reads`` and ``writes`` (which must exist). ``devices`` keeps what graphics drivers need,
    ``forks`` allows forks of this process. Call before any thread exists. A layer that the system
    refuses is reported in the result and is not an error.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # users' text must not get into core dumps
    if not sys.platform.startswith("linux"):
        return Protection(missing={LANDLOCK: sys.platform, SECCOMP: sys.platform})
    if devices:
        _make_device_files()
    active: dict[str, str] = {}
    missing: dict[str, str] = {}

    @contextmanager
    def layer(name: str, how: str = "") -> Iterator[None]:
        try:
            yield
            active[name] = how
        except OSError as error:
            missing[name] = error.strerror or str(error)

    with layer(NO_NEW_PRIVILEGES):
        check(libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    with layer(NETWORK):
        leave_network()
    allowed = _allowed(reads, writes, devices=devices)
    if abi := landlock.version():
        with layer(LANDLOCK, f"ABI {abi}"):
            landlock.restrict(*allowed)
    else:
        missing[LANDLOCK] = "not supported or not enabled by this kernel"
    if LANDLOCK not in active:
        with layer(MOUNTS):
            mount_namespace.enter(*allowed)
    if not active.keys() & {LANDLOCK, MOUNTS} and os.geteuid() == 0:
        with layer(SEPARATE_USER):
            change_user(reads + writes)
    with layer(NO_CAPABILITIES):
        if _drop_capabilities(reads + writes):
            active[NO_CAPABILITIES] = "except CAP_DAC_OVERRIDE, for files of another user"
    with layer(HIDDEN_MEMORY):
        check(libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    follow_parent()  # a change of user or capabilities resets it; the filter then protects it
    with layer(SECCOMP):
        seccomp.install(forks=forks, devices=devices)
    return Protection(active, missing)


def leave_network() -> None:
    """Enter a network namespace, through a user namespace if not root."""
    user, group = os.geteuid(), os.getegid()
    check(libc().unshare(_CLONE_NEWNET | (0 if user == 0 else _CLONE_NEWUSER)))
    if user:
        # Keep the user ID, so that files can be created in the new file system.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


Allowed = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def _allowed(reads: tuple[str, ...], writes: tuple[str, ...], *, devices: bool) -> Allowed:
    """Return the paths to read, to write, to use as devices, and to create files in."""
    reads = (*_READ, *_libraries(), *reads)
    if not devices:
        return reads, (*_WRITE, *writes), (), ()
    found = (str(path) for path in Path("/dev").glob("nvidia*"))
    cache = os.environ.get("CUDA_CACHE_PATH")
    return (
        (*reads, *_DRIVERS_READ),
        (*_WRITE, *writes),
        (*_DRIVERS_USE, *found),
        (cache,) if cache else (),
    )


def _libraries() -> Iterator[str]:
    """Yield the folders of Python, of installed packages and of this package.

    Never the project folder, which may contain the data folder.
    """
    yield str(_PACKAGE)
    for name in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield sysconfig.get_path(name)
    # Python builds that bundle shared libraries have them here.
    yield from (f"{sys.base_prefix}/lib", f"{sys.prefix}/lib")
    for path in (*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(":")):
        if path and not _PACKAGE.is_relative_to(Path(path).resolve()):
            yield path


def _make_device_files() -> None:
    """Create NVIDIA's device files.

    The driver creates them at first use through a program, which can't run in the sandbox.
    """
    tool = shutil.which("nvidia-modprobe")
    if tool and Path("/proc/driver/nvidia").exists() and not Path("/dev/nvidia-uvm").exists():
        subprocess.run([tool, "-c", "0", "-u"], check=False, timeout=30)


def change_user(needed: tuple[str, ...]) -> None:
    """Change from root to a user ID that no other process has.

    Raise OSError and change nothing if that user could not open Python's libraries and ``needed``,
    which may be readable by root only.
    """
    user = _FIRST_USER + os.getpid()
    needed = tuple(filter(_opens, (*_libraries(), *needed)))
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(user, user, 0)
    os.setresuid(user, user, 0)
    if all(map(_opens, needed)):
        os.setresuid(0, 0, 0)
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        return
    os.setresuid(0, 0, 0)
    os.setresgid(0, 0, 0)
    os.setgroups(groups)
    raise OSError(errno.EACCES, "its files are readable by root only")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _drop_capabilities(needed: tuple[str, ...]) -> bool:
    """Drop the capabilities of root and of a user namespace.

    Return whether CAP_DAC_OVERRIDE was kept, because files in ``needed`` can't be opened without
    it.
    """
    header = _CapabilityHeader(_CAPABILITIES_VERSION, 0)
    sets = (_CapabilitySet * 2)()
    check(libc().capget(ctypes.byref(header), ctypes.byref(sets)))
    readable = [path for path in needed if _opens(path)]
    for part in sets:
        part.effective = 0
    check(libc().capset(ctypes.byref(header), ctypes.byref(sets)))
    stays = _CAP_DAC_OVERRIDE if not all(map(_opens, readable)) else 0
    for part in sets:
        part.effective = part.permitted = part.inheritable = 0
    sets[0].effective = sets[0].permitted = stays
    check(libc().capset(ctypes.byref(header), ctypes.byref(sets)))
    return bool(stays)


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class Trial(msgspec.Struct, frozen=True):
    """Result of a trial; ``done`` are forbidden acts that succeeded."""

    protection: Protection
    done: tuple[str, ...] = ()


class NoTrial(Exception):
    """The child ended without an answer; the message gives the reason."""


async def trial(folder: str | os.PathLike[str], options: Sequence[str] = ()) -> Trial:
    """Run `main` in a child. Raise `NoTrial`."""
    try:
        result = await spawn.run([str(folder), *options], _TRIAL_SECONDS, module=__name__)
    except TimeoutError:
        raise NoTrial(f"no answer in {_TRIAL_SECONDS:g} s") from None
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(result.answer, type=Trial)
    raise NoTrial(": ".join([spawn.exit_reason(result.returncode), *result.reasons[-1:]]))


def try_acts(folder: str) -> tuple[str, ...]:
    """Return the names of forbidden acts that this process can do.

    ``folder`` is the data folder.
    """
    inside = Path(folder)
    acts: dict[str, Callable[[], object]] = {
        "read the secret key": (inside / "secret_key").read_bytes,
        "read the database": (inside / "chatsite.sqlite3").open,
        "list the data folder": lambda: _list(inside),
        "write into the data folder": lambda: _write(inside),
        "read a system file": Path("/etc/passwd").read_bytes,
        "read the parent's environment": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "open a Unix socket": lambda: _connect(inside / "run" / "redis.sock"),
        "open a TCP socket": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    }
    return tuple(name for name, act in acts.items() if succeeds(act))


def _list(folder: Path) -> None:
    # The file system of a mount namespace contains the folders that lead to the model.
    if "run" not in {path.name for path in folder.iterdir()}:
        raise FileNotFoundError(folder)


def _write(folder: Path) -> None:
    file = folder / f"sandbox-{os.getpid()}"
    file.touch()
    file.unlink()


def _connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))


def succeeds(act: Callable[[], object]) -> bool:
    """Return whether an act succeeds.

    A refused connection was reachable and counts; a file that is not visible does not.
    """
    try:
        act()
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return True


def main() -> int:
    """Enter the sandbox, try all forbidden acts, and print a `Trial` as JSON.

    The argument is the data folder; ``devices`` after it requests the sandbox of engines with
    devices.
    """
    protection = enter(devices="devices" in sys.argv[2:])
    trial = Trial(protection, try_acts(sys.argv[1]))
    os.write(1, msgspec.json.encode(trial) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
