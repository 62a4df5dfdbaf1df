"""C library calls that Python does not provide."""

from __future__ import annotations

import ctypes
import os
from functools import cache


@cache
def libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def check(result: int) -> int:
    """Return the result of a C function; raise OSError if it is negative."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def system_call(number: int, *arguments: bytes | int | None) -> int:
    """Call the kernel directly. Raise OSError."""
    as_long = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = libc().syscall(ctypes.c_long(number), *as_long)
    return check(result)
