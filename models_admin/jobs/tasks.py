"""Celery tasks of the model library; the work of jobs is in `jobs/`."""

from __future__ import annotations

import logging
from uuid import UUID

from chatsite.celery import app
from models_admin.jobs import cleaning, run, states
from models_admin.store import files

logger = logging.getLogger(__name__)


@app.task(name=states.RUN_TASK, ignore_result=True)
def run_job(id: str) -> None:
    """Attempt the job; do nothing if it is leased by another worker, not due, or ended."""
    run.run(UUID(id))


@app.task(name="models_admin.tasks.sweep_jobs", ignore_result=True)
def sweep_jobs() -> None:
    """Requeue jobs whose worker died. Scheduled by Celery beat."""
    states.sweep()


@app.task(name="models_admin.tasks.clean_partials")
def clean_partials() -> None:
    """Remove files of killed imports and of ended jobs. Scheduled by Celery beat.

    Files that are being written are kept.
    """
    for name in (*files.clean_partials(), *cleaning.clean()):
        logger.info("Removed a partial file that no job owns", extra={"file": name})
