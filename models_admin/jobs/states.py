"""Job state transitions. Each one is a conditional update: no row changed means too late.

```
            claim              finish
 queued ──────────► running ──────────► done, failed, cancelled
   ▲  ▲               │  │
   │  └── put_off ────┘  └── finish ──► paused
   └──────── resume, retry ───────────────┘ (and from failed, cancelled)
```

A worker that dies leaves a running job whose lease expires; `sweep` requeues it.
"""

from __future__ import annotations

import logging
import os
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psutil
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.celery import app
from chatsite.errors import ChatsiteError, NotFound, in_each_language, worded
from models_admin import names
from models_admin.jobs import cleaning, job_log, requests
from models_admin.models import Job, JobState

log = logging.getLogger(__name__)

RUN_TASK: Final = "models_admin.tasks.run_job"
LEASE: Final = timedelta(seconds=30)
_DEATHS_MAX: Final = 10
# Statuses of permanent errors that a retry can't fix: bad input, missing at the source.
_INCURABLE: Final = frozenset({400, 403, 404})
_CLAIMING: Final = 0x6A6F6273  # advisory lock key; not used elsewhere


class JobRefused(ChatsiteError):
    code = "job_refused"
    status = 409
    message = _("This action isn't possible in the job's current state.")


class WorkerDied(ChatsiteError):
    code = "worker_died"
    message = _("The worker crashed repeatedly. Check its log.")


class JobMissing(NotFound):
    code = "job_not_found"
    message = _("This job does not exist.")


def ask(request: requests.AnyRequest, target: str, *, by: User | None = None) -> tuple[Job, bool]:
    """Return a job that creates the model ``target``, and whether the job is new.

    An open job with an equal request is joined. Raises `BadModelName`, and `JobRefused` if an open
    job of the same kind creates the target from a different source.
    """
    written = names.normalise(target)
    kind = request.kind
    person = by.get_username() if by else "manage.py"
    for _attempt in range(3):
        try:
            with transaction.atomic():
                job = Job.objects.create(
                    kind=kind,
                    target=written,
                    source=request.source_text[: requests.SOURCE_CHARS],
                    options=requests.encode(request),
                    asked_by=by,
                    language=translation.get_language() or "",
                )
                job_log.write(job, "asked", person=person)
        except IntegrityError:
            found = Job.objects.filter(kind=kind, target__iexact=written, state__in=Job.OPEN)
            existing = found.first()
            if existing is None:
                continue  # it has ended since
            if requests.of(existing) != request:
                text = _(
                    "Another job is already creating %(name)s from a different source: %(source)s."
                )
                values = {"name": written, "source": existing.source}
                raise JobRefused(worded(text, values)) from None
            job_log.write(existing, "joined", person=person)
            return existing, False
        wake(job.pk)
        return job, True
    raise JobRefused


def wake(id: UUID) -> None:
    """Send a worker a hint to run the job; `sweep` finds the job if the hint is lost."""

    def send() -> None:
        try:
            with app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0)
                app.send_task(RUN_TASK, [str(id)], connection=connection)
        except OperationalError as error:
            log.warning(
                "Worker can't be woken; the next sweep does", extra={"job": id, "error": error}
            )

    transaction.on_commit(send)


def me() -> str:
    """Return an ID of this process by which others can tell whether it is still alive."""
    pid = os.getpid()
    return f"{_here()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def _here() -> str:
    """Return an ID of the scope in which PIDs are unique: this boot, in this PID namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{boot.read_text().strip()}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def claim(id: UUID) -> Job | None:
    """Lease the job to this process and return it as running.

    Return None if the job is not due, is leased by another worker, or the maximum number of jobs is
    running.
    """
    with transaction.atomic():
        _one_at_a_time()
        now = timezone.now()
        if _held(now).exclude(pk=id).count() >= settings.ENV.jobs:
            return None
        due = Q(state=JobState.QUEUED) & (Q(not_before=None) | Q(not_before__lte=now))
        left = Q(state=JobState.RUNNING, lease_until__lte=now, wanted="")
        changed = Job.objects.filter(due | left, pk=id).update(
            state=JobState.RUNNING,
            wanted="",
            attempt=F("attempt") + 1,
            worker=me(),
            lease_until=now + LEASE,
            started_at=Coalesce(F("started_at"), now),
            finished_at=None,
            error={},
        )
        return Job.objects.get(pk=id) if changed else None


def is_leased(job: Job) -> bool:
    """Return whether a worker holds a lease of the job that has not expired."""
    lease = job.lease_until
    return job.state == JobState.RUNNING and lease is not None and lease > timezone.now()


def _one_at_a_time() -> None:
    """Serialize claims until the transaction ends, so that two don't take the same last place.

    SQLite serializes writing transactions itself.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIMING])


def beat(job: Job, *, stage: str, done: int, total: int) -> str | None:
    """Renew the lease and save the progress.

    Return the requested state (empty if there is none), or None if another worker has taken over
    the job.
    """
    held = _mine(job)
    if not held.update(
        lease_until=timezone.now() + LEASE, stage=stage[:20], done=done, total=total
    ):
        return None
    return held.values_list("wanted", flat=True).first()


def own_partial_files(job: Job, digests: list[str]) -> None:
    """Record the partial files of the job, so that `cleaning` keeps them."""
    _mine(job).update(partial_files=digests)


def finish(job: Job, state: JobState, *, error: dict[str, Any] | None = None) -> bool:
    """End the job, or suspend it with `JobState.PAUSED`. Return False if the lease was lost."""
    ended = None if state == JobState.PAUSED else timezone.now()
    changed = _mine(job).update(
        state=state, wanted="", lease_until=None, error=error or {}, finished_at=ended
    )
    if changed and state in {JobState.DONE, JobState.FAILED}:
        done = state == JobState.DONE
        record(
            "job.completed" if done else "job.failed",
            via="system",
            outcome="ok" if done else "failed",
            target=("job", str(job.pk), job.target),
            job=job.kind,
            source=job.source,
            requested_by=job.asked_by.get_username() if job.asked_by else "",
            error=(error or {}).get("code", ""),
        )
    wake_next()
    return bool(changed)


def put_off(job: Job, seconds: float, *, failures: int, error: dict[str, Any]) -> bool:
    """Requeue the job with a delay in seconds.

    Return False if the lease was lost or a pause or cancellation is pending, which `sweep` then
    applies.
    """
    return bool(
        _mine(job)
        .filter(wanted="")
        .update(
            state=JobState.QUEUED,
            lease_until=None,
            not_before=timezone.now() + timedelta(seconds=seconds),
            failures=failures,
            error=error,
        )
    )


def stored(error: ChatsiteError) -> dict[str, Any]:
    """Return the error of a job as it is saved.

    It includes the texts in all languages and whether a retry of the same job can succeed.
    """
    texts = in_each_language(error)
    curable = not error.permanent or error.status not in _INCURABLE
    return {**error.as_dict(), "texts": texts, "curable": curable}


def pause(id: UUID, by: User | None = None) -> Job:
    return _leave(id, JobState.PAUSED, (JobState.QUEUED, JobState.RUNNING), by)


def cancel(id: UUID, by: User | None = None) -> Job:
    return _leave(id, JobState.CANCELLED, Job.OPEN, by)


def resume(id: UUID, by: User | None = None) -> Job:
    """Requeue a paused, failed or cancelled job, or retry now a job whose retry is delayed.

    Raises `JobMissing` and `JobRefused`.
    """
    try:
        with transaction.atomic():
            changed = Job.objects.filter(
                Q(state__in=(JobState.PAUSED, JobState.FAILED, JobState.CANCELLED))
                | Q(state=JobState.QUEUED, not_before__isnull=False),
                pk=id,
            ).update(
                state=JobState.QUEUED, wanted="", not_before=None, failures=0, finished_at=None
            )
    except IntegrityError:
        raise JobRefused(_("Another job is already creating this model.")) from None
    job = _get(id)
    if not changed:
        raise JobRefused
    job_log.write(job, "resumed_by", person=by.get_username() if by else "manage.py")
    wake(id)
    return job


def remove(id: UUID) -> Job:
    """Delete an ended job and its log; an installed model stays. Raises `JobRefused`."""
    job = _get(id)
    ended = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
    removed, _by_model = Job.objects.filter(pk=id, state__in=ended).delete()
    if not removed:
        raise JobRefused
    cleaning.clean()
    return job


def sweep() -> None:
    """Requeue the jobs of dead workers and wake due jobs. Safe to run concurrently."""
    now = timezone.now()
    for job in _held(now):
        if _is_dead(job.worker):
            Job.objects.filter(pk=job.pk, attempt=job.attempt).update(lease_until=now)
    for job in Job.objects.filter(state=JobState.RUNNING, lease_until__lte=now):
        if job.wanted and _mine(job).update(
            state=job.wanted,
            wanted="",
            lease_until=None,
            finished_at=now if job.wanted == JobState.CANCELLED else None,
        ):
            continue
        _take_back(job)
    wake_next()


def _take_back(job: Job) -> None:
    """Requeue a job whose worker died; fail it after `_DEATHS_MAX` failures in a row."""
    if job.failures < _DEATHS_MAX:
        back = {"state": JobState.QUEUED, "lease_until": None, "not_before": None}
        if _mine(job).update(**back, failures=F("failures") + 1):
            job_log.write(job, "lost")
        return
    error = WorkerDied()
    if finish(job, JobState.FAILED, error=stored(error)):
        job_log.write(job, "failed", reason=in_each_language(error))


def wake_next() -> None:
    due = Q(not_before=None) | Q(not_before__lte=timezone.now())
    waiting = Job.objects.filter(due, state=JobState.QUEUED).order_by("created_at")
    for id in waiting.values_list("pk", flat=True)[: settings.ENV.jobs]:
        wake(id)


def _held(now: datetime) -> QuerySet[Job]:
    return Job.objects.filter(state=JobState.RUNNING, lease_until__gt=now)


def _mine(job: Job) -> QuerySet[Job]:
    return Job.objects.filter(pk=job.pk, state=JobState.RUNNING, attempt=job.attempt)


def _get(id: UUID) -> Job:
    job = Job.objects.filter(pk=id).first()
    if job is None:
        raise JobMissing
    return job


def _leave(id: UUID, state: JobState, frm: tuple[JobState, ...], by: User | None) -> Job:
    """Change the state now if no worker runs the job; otherwise request it from its worker."""
    idle = [one for one in frm if one != JobState.RUNNING]
    ended = timezone.now() if state == JobState.CANCELLED else None
    changed = Job.objects.filter(pk=id, state__in=idle).update(
        state=state, not_before=None, finished_at=ended
    ) or Job.objects.filter(pk=id, state=JobState.RUNNING).update(wanted=state)
    job = _get(id)
    if not changed:
        raise JobRefused
    job_log.write(job, str(state.value), person=by.get_username() if by else "manage.py")
    if job.state == JobState.CANCELLED:
        cleaning.clean()
    return job


def _is_dead(worker: str) -> bool:
    """Return whether the worker was a process of this machine that has exited."""
    where, _colon, rest = worker.partition(":")
    pid, _colon, created = rest.partition(":")
    if where != _here() or not pid.isdecimal():
        return False
    try:
        began: float = psutil.Process(int(pid)).create_time()
        return abs(began - float(created)) > 1
    except psutil.NoSuchProcess:
        return True
