"""Leases of background work: each change of state is a conditional update."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import OperationalError

from chatsite.celery import app
from chatsite.errors import ChatsiteError
from chatsite.retention.models import Deletion, Export, Work, WorkState

log = logging.getLogger(__name__)

Row = TypeVar("Row", Deletion, Export)


def _due() -> Q:
    late = Q(state=WorkState.RUNNING, leased_until__lt=timezone.now())
    return Q(state=WorkState.QUEUED) | late


def claim(kind: type[Row], id: UUID) -> Row | None:
    """Lease the work; None if another worker holds it or it has ended."""
    claimed = kind._default_manager.filter(_due(), pk=id).update(
        state=WorkState.RUNNING,
        attempts=F("attempts") + 1,
        leased_until=timezone.now() + Work.LEASE,
    )
    row: Row | None = kind._default_manager.filter(pk=id).first() if claimed else None
    if row is not None and row.attempts > Work.ATTEMPTS_MAX:
        fail(row, ChatsiteError())
        return None
    return row


def renew(row: Row, **values: object) -> None:
    """Extend the lease and save ``values``. Raises `LeaseLost` if another attempt has it."""
    own = type(row)._default_manager.filter(
        pk=row.pk, state=WorkState.RUNNING, attempts=row.attempts
    )
    if not own.update(leased_until=timezone.now() + Work.LEASE, **values):
        raise LeaseLost(str(row.pk))


def finish(row: Row, **values: object) -> None:
    """End the work as done. Raises `LeaseLost`."""
    renew(row, state=WorkState.DONE, finished_at=timezone.now(), **values)


def fail(row: Row, error: ChatsiteError) -> None:
    renew(row, state=WorkState.FAILED, finished_at=timezone.now(), error=error.as_dict())


class LeaseLost(Exception):
    """Another attempt holds the work."""


def wake_after_commit(task: str, id: UUID) -> None:
    """Send a worker a hint to attempt the work; `tasks.sweep` finds it if the hint is lost."""
    transaction.on_commit(lambda: wake(task, arguments=[str(id)]))


def wake(*tasks: str, arguments: Sequence[str] = ()) -> bool:
    """Have a worker run tasks; False if the workers can't be reached."""
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            for task in tasks:
                app.send_task(task, list(arguments), connection=connection)
    except OperationalError as error:
        log.warning("Worker can't be woken; the next run does the work", extra={"error": error})
        return False
    return True


def waiting(kind: type[Row]) -> list[UUID]:
    """Return work that no worker holds."""
    return list(kind._default_manager.filter(_due()).values_list("pk", flat=True))
