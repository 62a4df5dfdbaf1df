"""Landlock by raw system calls: restricts the files that a process may open.

Requires Linux 5.13 with Landlock enabled (`linux/landlock.h`). Newer versions (ABI) also restrict
TCP ports, abstract Unix sockets and signals. `seccomp.py` covers what Landlock does not: path-based
Unix sockets and changes of metadata.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from typing import Final

from chatsite.sandbox.libc import system_call

# System call numbers, equal on all architectures.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # flag of landlock_create_ruleset
_PATH_BENEATH: Final = 1

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_DIR: Final = 1 << 7
_MAKE_FILE: Final = 1 << 8
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_OF_FIRST_ABI: Final = (1 << 13) - 1
_TCP: Final = 0b11  # bind and connect
_SCOPES: Final = 0b11  # abstract Unix sockets, signals

# First ABI version with each feature.
_ABI_REFER: Final = 2
_ABI_TRUNCATE: Final = 3
_ABI_TCP: Final = 4
_ABI_IOCTL: Final = 5
_ABI_SCOPES: Final = 6


def version() -> int:
    """Return the kernel's ABI version; 0 if Landlock is missing or disabled."""
    try:
        return system_call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(
    reads: Iterable[str | os.PathLike[str]],
    writes: Iterable[str | os.PathLike[str]] = (),
    devices: Iterable[str | os.PathLike[str]] = (),
    scratch: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Restrict this thread and its future children to these files.

    ``reads`` may be read, ``writes`` also written, ``devices`` also used by ioctl; a folder
    includes everything below it. Files can be created and removed only in the folders of
    ``scratch``. Missing paths are skipped. Open file descriptors stay usable.

    ``no_new_privs`` must be set. Raise OSError.
    """
    abi = version()
    handled = _OF_FIRST_ABI
    for bit, since in ((_REFER, _ABI_REFER), (_TRUNCATE, _ABI_TRUNCATE), (_IOCTL_DEV, _ABI_IOCTL)):
        handled |= bit if abi >= since else 0
    parts = [handled]
    if abi >= _ABI_TCP:
        parts.append(_TCP)
    if abi >= _ABI_SCOPES:
        parts.append(_SCOPES)
    attributes = struct.pack(f"={len(parts)}Q", *parts)
    ruleset = system_call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        read = _READ_FILE | _READ_DIR
        write = read | _WRITE_FILE | _TRUNCATE
        make = write | _MAKE_FILE | _MAKE_DIR | _REMOVE_FILE | _REMOVE_DIR
        granted = (
            *((reads, read), (writes, write)),
            *((devices, write | _IOCTL_DEV), (scratch, make)),
        )
        for paths, allowed in granted:
            for path in paths:
                _allow(ruleset, path, allowed & handled)
        system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str | os.PathLike[str], allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= ~_READ_DIR
        rule = struct.pack("=Qi", allowed, descriptor)
        system_call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
