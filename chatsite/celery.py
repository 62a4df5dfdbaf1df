"""Background jobs: the Celery application.

Declare tasks on this ``app`` (`from chatsite.celery import app`), never with `shared_task`: a
process that imports a task to send it then has the broker's address too.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from celery import Celery, bootsteps, signals
from celery.beat import PersistentScheduler
from django.conf import settings

from chatsite import logs
from chatsite.sandbox import confine
from chatsite.supervisor import child, heartbeat

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

app = Celery("chatsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Packages with tasks that are not Django apps.
app.autodiscover_tasks(
    ["chatsite.chat", "chatsite.backup", "models_admin.jobs", "models_admin.adminsite.audit"]
)


class ShowLife(bootsteps.StartStopStep):
    """Heartbeats of the worker's main loop, restarted with each connection to the broker."""

    def start(self, consumer: Any) -> None:
        self._beat()
        consumer.timer.call_repeatedly(heartbeat.SECONDS, self._beat)

    @staticmethod
    def _beat() -> None:
        heartbeat.beat(settings.DATA_DIR, heartbeat.CELERY)


app.steps["consumer"].add(ShowLife)


class Scheduler(PersistentScheduler):
    """Sends heartbeats of beat, which Celery does not restart if it dies."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        heartbeat.beat(settings.DATA_DIR, heartbeat.BEAT)
        return super().tick(*args, **kwargs)


_main_pid: int | None = None


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure("celery")


@signals.celeryd_init.connect
def _begin_main(**_: Any) -> None:
    global _main_pid  # noqa: PLW0603  (a fact about this process, which its forks inherit)
    _main_pid = os.getpid()
    confine.hide_memory()  # and that of its forks
    # Celery warns root of pickled messages; ours are JSON.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    child.leave_with_supervisor()


@signals.worker_process_init.connect
@signals.beat_embedded_init.connect
def _begin_fork(**_: Any) -> None:
    if _main_pid is not None and _main_pid != os.getpid():
        child.die_with_parent(_main_pid)
