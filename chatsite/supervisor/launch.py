"""Becomes another program that leaves when its parent does.

Run as a script between fork and exec: `python -I -S launch.py PARENT_PID PROGRAM ARGUMENTS…`.
Asking the kernel from a process of its own is safe where a hook between fork and exec of the
supervisor (which has threads) is not. Only the standard library, since nothing else is on the
path here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def set_parent_death_signal(number: int) -> None:
    """Asks the kernel to send us ``number`` when our parent ends. Linux only; elsewhere the
    check in `child.py` has to do. Kept over exec, lost over fork."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    set_parent_death_signal(signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the supervisor ended during the start")
    # Python ignores these, and what is ignored stays so over exec.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606  (that is what this is for)
    except OSError as error:
        raise SystemExit(f"{command[0]} can't be started: {error.strerror}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
