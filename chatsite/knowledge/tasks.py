"""Celery tasks of knowledge. They carry no work: it is found in SQL."""

from __future__ import annotations

from typing import Final

from chatsite.celery import app
from chatsite.knowledge import ingest, vectors_job

# Then the worker is free for other tasks; the next task continues.
_AT_ONCE: Final = 20


@app.task(name=ingest.TASK, ignore_result=True)
def read_documents() -> None:
    """Read documents that are due, and index those that were renamed."""
    named = ingest.index_names(_AT_ONCE)
    if _AT_ONCE in {named, ingest.run_all(_AT_ONCE)}:
        ingest.wake()


@app.task(name=ingest.EMBED_TASK, ignore_result=True)
def compute_vectors() -> None:
    """Compute vectors of passages that have none."""
    if vectors_job.run_for_a_while():
        ingest.wake(ingest.EMBED_TASK)


@app.task(name="chatsite.knowledge.sweep", ignore_result=True)
def sweep() -> None:
    """Start work whose worker or hint was lost. Scheduled by Celery beat."""
    ingest.sweep()
    vectors_job.sweep()
