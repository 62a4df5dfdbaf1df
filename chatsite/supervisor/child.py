"""How a Python process of the product ends with its parent.

The kernel's signal (`launch.py`) ends it gracefully. A thread here covers the rest: a shutdown
that hangs, and systems without that signal.
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
    """End this process group within ``_POLL_SECONDS + _GRACE_SECONDS`` of the supervisor's death.

    For direct children of `manage.py up`. Does nothing in a process that was started otherwise.
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
    """Kill this process when ``parent``, its creator, ends.

    For processes that a child forks (Celery's pool). ``parent`` is passed since it may have ended
    before this call.
    """
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=_kill_after, args=(parent,), name="parent-watch", daemon=True).start()


def _kill_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
