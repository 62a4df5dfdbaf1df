"""Background jobs: the Celery application.

Tasks are declared on this ``app`` (`from chatsite.celery import app`), never with
`shared_task`: whoever imports a task to send it then has the broker's address too.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from celery import Celery, signals

from chatsite import logs
from chatsite.supervisor import child

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

app = Celery("chatsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# A package with tasks that is no Django app.
app.autodiscover_tasks(["chatsite.dispatch"])

_main_pid: int | None = None


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure("celery")


@signals.celeryd_init.connect
def _begin_main(**_: Any) -> None:
    global _main_pid  # noqa: PLW0603  (a fact about this process, which its forks inherit)
    _main_pid = os.getpid()
    # It warns root of pickled messages; ours are JSON.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    child.leave_with_supervisor()


@signals.worker_process_init.connect
@signals.beat_embedded_init.connect
def _begin_fork(**_: Any) -> None:
    if _main_pid is not None and _main_pid != os.getpid():
        child.die_with_parent(_main_pid)
