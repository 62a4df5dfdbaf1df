"""Celery tasks: purges by beat, and deletions and exports that users ask for."""

from __future__ import annotations

from uuid import UUID

from chatsite.celery import app
from chatsite.retention import deletions, erase, exporting, work
from chatsite.retention.models import Deletion, Export


@app.task(name=deletions.TASK, ignore_result=True)
def delete(id: str) -> None:
    """Attempt a deletion; do nothing if another worker holds it or it has ended."""
    deletions.run(UUID(id))


@app.task(name=exporting.TASK, ignore_result=True)
def export(id: str) -> None:
    """Attempt an export; do nothing if another worker holds it or it has ended."""
    exporting.run(UUID(id))


@app.task(name="chatsite.retention.sweep", ignore_result=True)
def sweep() -> None:
    """Start work whose worker or hint was lost, and remove expired exports; started by beat."""
    for id in work.waiting(Deletion):
        app.send_task(deletions.TASK, [str(id)])
    for id in work.waiting(Export):
        app.send_task(exporting.TASK, [str(id)])
    exporting.remove_expired()


@app.task(name="chatsite.retention.purge_deleted", ignore_result=True)
def purge_deleted() -> None:
    deletions.purge_deleted()


@app.task(name="chatsite.retention.purge_expired", ignore_result=True)
def purge_expired() -> None:
    deletions.purge_expired()


@app.task(name="chatsite.retention.erase", ignore_result=True)
def erase_files() -> None:
    """Remove deleted text from files."""
    erase.run()
