"""What a worker does with a job: claim it, do the work, and say how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from django.utils import translation

from chatsite.errors import ChatsiteError
from models_admin.jobs import cleaning, download, importing, lines, quantizing, states
from models_admin.jobs.control import Control
from models_admin.jobs.progress import Progress
from models_admin.models import Job, JobKind, JobState

log = logging.getLogger(__name__)

Work = Callable[[Job, Control], None]

KINDS: Final[Mapping[str, Work]] = {
    JobKind.DOWNLOAD: download.work,
    JobKind.IMPORT: importing.work,
    JobKind.QUANTIZE: quantizing.work,
    JobKind.EXPORT: importing.export,
}
# Failures in a row that brought nothing new before a job is given up, and the pauses in seconds.
_PAUSES: Final = (30, 60, 120, 300, 600, 1800, 3600)


def run(id: UUID, show: Callable[[Progress], None] | None = None) -> Job | None:
    """Does what can be done of the job now; returns it as it is then, None when it is not to be
    had. ``show`` is called twice a second with how far it is."""
    job = states.claim(id)
    if job is None:
        return None
    with translation.override(job.language or None):
        _attempt(job, show)
    job.refresh_from_db()
    return job


def _attempt(job: Job, show: Callable[[Progress], None] | None) -> None:
    lines.write(job, "started", attempt=job.attempt)
    before = job.done
    control = Control(job, show)
    try:
        with control:
            KINDS[job.kind](job, control)
    except Exception as error:  # noqa: BLE001  (whatever the work raises is how the job ends)
        if control.leaving.is_set():
            _leave(job, control)
        elif isinstance(error, ChatsiteError) and not error.permanent:
            _try_again(job, error, got_on=control.done > before)
        else:
            _fail(job, error)
        return
    states.finish(job, JobState.DONE)


def _leave(job: Job, control: Control) -> None:
    if control.wanted:
        states.finish(job, JobState(control.wanted))
        if control.wanted == JobState.CANCELLED:
            cleaning.clean()
    else:
        log.warning("job %s was taken over by another worker", job.pk)


def _try_again(job: Job, error: ChatsiteError, *, got_on: bool) -> None:
    failures = 1 if got_on else job.failures + 1
    if failures > len(_PAUSES):
        _fail(job, error)
        return
    seconds = _PAUSES[failures - 1]
    lines.write(job, "again", reason=str(error), seconds=seconds)
    states.put_off(job, seconds, failures=failures, error=error.as_dict())


def _fail(job: Job, error: Exception) -> None:
    if not isinstance(error, ChatsiteError):
        log.error("job %s failed unexpectedly", job.pk, exc_info=error)
        error = ChatsiteError()
    lines.write(job, "failed", reason=str(error))
    states.finish(job, JobState.FAILED, error=error.as_dict())
