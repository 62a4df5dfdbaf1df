"""What the child gives up before it reads a model file: the file may be hostile to llama.cpp."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def take_pipe() -> tuple[int, int]:
    """Descriptors for frames in and out. Standard output becomes standard error, so nothing
    that a library prints gets between two frames; standard input becomes empty."""
    frames_in, frames_out = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return frames_in, frames_out


def enter() -> str:
    """Call before any thread exists. Returns a line for the log that says whether the process
    is cut off from the network. What the system refuses is said there, and is no error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host decides when we end
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # people's text stays out of core files
    if not sys.platform.startswith("linux"):
        return f"network: not cut off, {sys.platform} has no namespaces"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        return f"parent's death goes unnoticed: {os.strerror(ctypes.get_errno())}"
    flags = _CLONE_NEWNET | (0 if os.geteuid() == 0 else _CLONE_NEWUSER)
    if libc.unshare(flags):
        return f"network: not cut off, {os.strerror(ctypes.get_errno())}"
    return "network: cut off (a namespace of its own)"
