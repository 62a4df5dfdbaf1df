"""What the Celery worker does for the models; long work is in `jobs/`."""

from __future__ import annotations

import logging
from uuid import UUID

from celery import shared_task

from models_admin import store
from models_admin.jobs import cleaning, run, states

logger = logging.getLogger(__name__)


@shared_task(name=states.RUN_TASK, ignore_result=True)
def run_job(id: str) -> None:
    """Does nothing when the job is not to be had: another has it, it is not due, or it ended."""
    run.run(UUID(id))


@shared_task(name="models_admin.tasks.sweep_jobs", ignore_result=True)
def sweep_jobs() -> None:
    """Runs by beat."""
    states.sweep()


@shared_task(name="models_admin.tasks.clean_partials")
def clean_partials() -> None:
    """Runs by beat. Removes what killed imports left and what no job wants any more, and nothing
    that is being written."""
    for name in (*store.clean_partials(), *cleaning.clean()):
        logger.info("Removed %s, which nobody completes", name)
