"""Replaces itself by a program that ends with its parent.

Run as a script between fork and exec: `python -I -S launch.py PARENT_PID PROGRAM ARGUMENTS…`.
A separate process may call prctl safely; a hook between fork and exec of the supervisor, which has
threads, may not. Standard library only: no other package is importable here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def set_parent_death_signal(number: int) -> None:
    """Make the kernel send ``number`` to this process when its parent ends.

    Linux only; elsewhere `child.py` polls. Kept over exec, lost over fork. Raises `OSError`.
    """
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
    # Python ignores these, and ignored signals stay ignored over exec.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606  (starts the configured program)
    except OSError as error:
        raise SystemExit(f"{command[0]} can't be started: {error.strerror}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
