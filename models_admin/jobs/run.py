"""How a worker runs a job: claim it, do the work, record its end or its retry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, assert_never
from uuid import UUID

from django.utils import translation

from chatsite.errors import ChatsiteError, in_each_language
from chatsite.hosts import commands
from models_admin.jobs import (
    cleaning,
    creating,
    download,
    importing,
    job_log,
    quantizing,
    requests,
    states,
)
from models_admin.jobs.job_context import Control
from models_admin.jobs.progress import Progress
from models_admin.models import Job, JobState

log = logging.getLogger(__name__)

# Backoff in seconds between retries. A job fails after this many retries in a row without progress.
_PAUSES: Final = (30, 60, 120, 300, 600, 1800, 3600)


def run(id: UUID, show: Callable[[Progress], None] | None = None) -> Job | None:
    """Make one attempt at the job and return it afterwards; None if it can't be claimed.

    ``show`` is called twice a second with the progress.
    """
    job = states.claim(id)
    if job is None:
        return None
    with translation.override(job.language or None):
        _attempt(job, show)
    # Also None if an administrator has removed the job since it ended.
    return Job.objects.filter(pk=job.pk).first()


def _attempt(job: Job, show: Callable[[Progress], None] | None) -> None:
    job_log.write(job, "started", attempt=job.attempt)
    before = job.done
    control = Control(job, show)
    try:
        with control:
            _work(job, control)
    except Exception as error:  # noqa: BLE001  (any error of the work ends the attempt)
        if control.stop_requested.is_set():
            _leave(job, control)
        elif isinstance(error, ChatsiteError) and not error.permanent:
            _try_again(job, error, got_on=control.done > before)
        else:
            _fail(job, error)
        return
    if states.finish(job, JobState.DONE):
        commands.tune_from_thread(
            {line.values["name"] for line in job.lines.filter(code__startswith="installed")}
        )


def _work(job: Job, control: Control) -> None:
    match requests.of(job):
        case requests.Download() as request:
            download.work(job, request, control)
        case requests.ImportFile() as request:
            importing.import_file(job, request, control)
        case requests.ImportUpload() as request:
            importing.import_upload(job, request, control)
        case requests.CreateModel() as request:
            creating.work(job, request, control)
        case requests.Quantize() as request:
            quantizing.work(job, request, control)
        case requests.Export() as request:
            importing.export(job, request, control)
        case request:
            assert_never(request)


def _leave(job: Job, control: Control) -> None:
    if control.requested_state:
        states.finish(job, JobState(control.requested_state))
        if control.requested_state == JobState.CANCELLED:
            cleaning.clean()
    else:
        log.warning(
            "Job was taken over by another worker", extra={"job": job.pk, "attempt": job.attempt}
        )


def _try_again(job: Job, error: ChatsiteError, *, got_on: bool) -> None:
    failures = 1 if got_on else job.failures + 1
    if failures > len(_PAUSES):
        _fail(job, error)
        return
    seconds = _PAUSES[failures - 1]
    job_log.write(job, "again", reason=in_each_language(error), seconds=seconds)
    states.put_off(job, seconds, failures=failures, error=states.stored(error))


def _fail(job: Job, error: Exception) -> None:
    if not isinstance(error, ChatsiteError):
        log.error("Job failed", exc_info=error, extra={"job": job.pk, "attempt": job.attempt})
        error = ChatsiteError()
    job_log.write(job, "failed", reason=in_each_language(error))
    states.finish(job, JobState.FAILED, error=states.stored(error))
