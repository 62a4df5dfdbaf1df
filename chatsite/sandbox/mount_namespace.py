"""A private file system, for kernels without Landlock.

The process moves into an empty file system in which only the allowed paths are mounted, read-only
except for writable ones. Requires root, or a user namespace.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chatsite.sandbox.libc import check, libc, system_call

_CLONE_NEWNS: Final = 0x00020000
_NOSUID, _NODEV, _NOEXEC = 0x2, 0x4, 0x8
_REMOUNT, _READ_ONLY, _BIND, _MOVE = 0x20, 0x1, 0x1000, 0x2000
_RECURSIVE, _PRIVATE = 0x4000, 0x40000
_DETACH: Final = 2
_MOUNT_SETATTR: Final = 442
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_AT_RECURSIVE: Final = 0x8000
_AT_FDCWD: Final = -100
# Exists on every system: the new file system is mounted there until it becomes the root.
_PLACE: Final = "/tmp"  # noqa: S108


def enter(
    reads: Iterable[str | os.PathLike[str]],
    writes: Iterable[str | os.PathLike[str]] = (),
    devices: Iterable[str | os.PathLike[str]] = (),
    scratch: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Restrict this process to these files. Missing paths are skipped. Raise OSError."""
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(0, f"not supported on {platform.machine()}")
    check(libc().unshare(_CLONE_NEWNS))
    _mount(None, "/", _RECURSIVE | _PRIVATE)
    # Opened after `unshare`, since only mounts of this namespace can be bound; and before any is
    # hidden.
    opened = [
        (path, os.open(path, os.O_PATH | os.O_CLOEXEC), writable)
        for paths, writable in ((reads, False), (writes, True), (devices, True), (scratch, True))
        for path in dict.fromkeys(str(Path(path).absolute()) for path in paths)
        if Path(path).exists()
    ]
    _mount("none", _PLACE, _NOSUID | _NODEV | _NOEXEC, kind="tmpfs")
    try:
        for path, descriptor, writable in sorted(opened, key=lambda one: len(one[0])):
            _bind(path, descriptor, writable=writable)
        _mount(None, _PLACE, _BIND | _REMOUNT | _READ_ONLY | _NOSUID | _NODEV | _NOEXEC)
        os.chdir(_PLACE)
        _become_root(number)
    except OSError:
        libc().umount2(_PLACE.encode(), _DETACH)
        raise
    finally:
        for _path, descriptor, _writable in opened:
            os.close(descriptor)


def _become_root(pivot_root: int) -> None:
    """Make the working directory the root, and detach the old root."""
    try:
        system_call(pivot_root, b".", b".")
        check(libc().umount2(b".", _DETACH))
    except OSError:
        # A system that runs from its initial RAM disk can't pivot its root.
        _mount(".", "/", _MOVE)
        check(libc().chroot(b"."))
    os.chdir("/")


def _bind(path: str, descriptor: int, *, writable: bool) -> None:
    """Mount the file of ``descriptor`` at ``path`` of the new file system."""
    target = Path(_PLACE + path)
    if target.exists():
        if not writable:
            return  # inside a folder that is mounted already
    elif stat.S_ISDIR(os.fstat(descriptor).st_mode):
        target.mkdir(mode=0o755, parents=True)
    else:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.touch(mode=0o644)
    _mount(f"/proc/self/fd/{descriptor}", str(target), _BIND | _RECURSIVE)
    if not writable:
        attributes = struct.pack("=4Q", _READ_ONLY | _NOSUID, 0, 0, 0)
        try:
            system_call(
                *(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE),
                *(attributes, len(attributes)),
            )
        except OSError:
            # Linux before 5.12 can remount only the folder itself.
            _mount(None, str(target), _BIND | _REMOUNT | _READ_ONLY | _NOSUID)


def _mount(source: str | None, target: str, flags: int, kind: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    check(libc().mount(*encoded, ctypes.c_ulong(flags), None))
