"""File descriptors: each connection takes one, and a server without free ones accepts no more."""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_limit() -> None:
    """Raise the soft limit of file descriptors to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # "unlimited" exceeds the kernel's own limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
