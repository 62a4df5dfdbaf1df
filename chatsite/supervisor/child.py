"""What a Python process of ours does so as not to outlive its parent.

The kernel's signal (`launch.py`) ends it in the ordinary way. A thread here sees to the rest:
an ending that hangs, and systems without that signal.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from chatsite.supervisor.launch import set_parent_death_signal

PARENT_VARIABLE = "CHATSITE_SUPERVISOR_PID"
_POLL_SECONDS = 1.0
_GRACE_SECONDS = 5.0


def leave_with_supervisor() -> None:
    """For a direct child of `manage.py up`: ends its whole process group within
    ``_POLL_SECONDS + _GRACE_SECONDS`` of the supervisor's death, however that came.

    Does nothing in a process that somebody else started.
    """
    supervisor = os.environ.get(PARENT_VARIABLE, "")
    if not supervisor.isdigit() or os.getppid() != int(supervisor):
        return
    threading.Thread(
        target=_watch, args=(int(supervisor),), name="parent-watch", daemon=True
    ).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent(parent: int) -> None:
    """For what a child of ours forks (Celery's pool): killed at once when ``parent``, its
    creator, ends. ``parent`` is given since it may have ended before this call."""
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=_kill_after, args=(parent,), name="parent-watch", daemon=True).start()


def _kill_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
