"""Every change of a job's state, by conditional update: who changes no row was late.

```
            claim              finish
 queued ──────────► running ──────────► done, failed, cancelled
   ▲  ▲               │  │
   │  └── put_off ────┘  └── release ─► paused
   └──────── resume, retry ───────────────┘ (and from failed, cancelled)
```

A worker that dies leaves a running job whose lease ends; `sweep` brings it back.
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
from chatsite.celery import app
from chatsite.errors import ChatsiteError, NotFound
from models_admin import names
from models_admin.jobs import cleaning, lines
from models_admin.models import Job, JobKind, JobState

log = logging.getLogger(__name__)

RUN_TASK: Final = "models_admin.tasks.run_job"
LEASE: Final = timedelta(seconds=30)
_DEATHS_MAX: Final = 10
_CLAIMING: Final = 0x6A6F6273  # any number that nothing else locks


class JobRefused(ChatsiteError):
    code = "job_refused"
    status = 409
    message = _("The job is not in a state in which that can be done.")


class WorkerDied(ChatsiteError):
    code = "worker_died"
    message = _("The worker that did it died again and again. Its log may say why.")


class JobMissing(NotFound):
    code = "job_not_found"
    message = _("There is no such job.")


def ask(
    kind: JobKind,
    target: str,
    source: str,
    *,
    by: User | None = None,
    options: dict[str, Any] | None = None,
) -> tuple[Job, bool]:
    """A job that makes the model ``target``, and whether it is new: an open one of the kind with
    this target and source is joined. Raises `BadModelName`, and `JobRefused` when an open one
    makes the target from something else."""
    written = names.normalise(target)
    person = by.get_username() if by else "manage.py"
    for _attempt in range(3):
        try:
            with transaction.atomic():
                job = Job.objects.create(
                    kind=kind,
                    target=written,
                    source=source,
                    options=options or {},
                    asked_by=by,
                    language=translation.get_language() or "",
                )
                lines.write(job, "asked", person=person)
        except IntegrityError:
            found = Job.objects.filter(kind=kind, target__iexact=written, state__in=Job.OPEN)
            existing = found.first()
            if existing is None:
                continue  # it ended meanwhile
            if existing.source != source or _asked(existing) != (options or {}):
                text = _("A job makes %(name)s from something else already: %(source)s.")
                values = {"name": written, "source": existing.source}
                raise JobRefused(str(text) % values) from None
            lines.write(existing, "joined", person=person)
            return existing, False
        wake(job.pk)
        return job, True
    raise JobRefused


def wake(id: UUID) -> None:
    """Hints to a worker; `sweep` finds the job when the hint is lost."""

    def send() -> None:
        try:
            with app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0)
                app.send_task(RUN_TASK, [str(id)], connection=connection)
        except OperationalError as error:
            log.warning("job %s waits for the next sweep: %s", id, error)

    transaction.on_commit(send)


def me() -> str:
    """This process, so that whoever finds its jobs can tell whether it still lives."""
    pid = os.getpid()
    return f"{_here()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def _here() -> str:
    """Where process numbers mean the same: this start of this kernel, in this container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{boot.read_text().strip()}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def claim(id: UUID) -> Job | None:
    """The job, running and leased to this process; None when it is not to be had now: not due,
    held by another, or as many run as may."""
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


def _one_at_a_time() -> None:
    """Until the transaction ends, so that two don't both count on the last free place. SQLite's
    own transactions are so."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIMING])


def beat(job: Job, *, stage: str, done: int, total: int) -> str | None:
    """Keeps the lease and saves how far it is; returns what somebody wants of it (a state, or
    empty), None when the job is no longer this worker's."""
    held = _mine(job)
    if not held.update(
        lease_until=timezone.now() + LEASE, stage=stage[:20], done=done, total=total
    ):
        return None
    return held.values_list("wanted", flat=True).first()


def remember(job: Job, digests: list[str]) -> None:
    """What it is fetching, so that nobody cleans it up."""
    job.options["digests"] = digests
    _mine(job).update(options=job.options)


def finish(job: Job, state: JobState, *, error: dict[str, Any] | None = None) -> bool:
    """Ends it or, with `JobState.PAUSED`, lays it aside. False when it was another's already."""
    ended = None if state == JobState.PAUSED else timezone.now()
    changed = _mine(job).update(
        state=state, wanted="", lease_until=None, error=error or {}, finished_at=ended
    )
    wake_next()
    return bool(changed)


def put_off(job: Job, seconds: float, *, failures: int, error: dict[str, Any]) -> bool:
    """Back into line, not to be tried before so many seconds have gone. False when it was
    another's already, or somebody wants it to pause or end: `sweep` sees to that."""
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


def pause(id: UUID, by: User | None = None) -> Job:
    return _leave(id, JobState.PAUSED, (JobState.QUEUED, JobState.RUNNING), by)


def cancel(id: UUID, by: User | None = None) -> Job:
    return _leave(id, JobState.CANCELLED, Job.OPEN, by)


def resume(id: UUID, by: User | None = None) -> Job:
    """Also tries a failed or cancelled one again, and at once one that waits for its next try."""
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
        raise JobRefused(_("Another job makes this model already.")) from None
    job = _get(id)
    if not changed:
        raise JobRefused
    lines.write(job, "resumed_by", person=by.get_username() if by else "manage.py")
    wake(id)
    return job


def sweep() -> None:
    """Brings back what dead workers left and wakes what is due. Safe beside itself."""
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
    """Into line again; who ends its worker each time is given up."""
    if job.failures < _DEATHS_MAX:
        back = {"state": JobState.QUEUED, "lease_until": None, "not_before": None}
        if _mine(job).update(**back, failures=F("failures") + 1):
            lines.write(job, "lost")
        return
    error = WorkerDied()
    if finish(job, JobState.FAILED, error=error.as_dict()):
        lines.write(job, "failed", reason=str(error))


def wake_next() -> None:
    due = Q(not_before=None) | Q(not_before__lte=timezone.now())
    waiting = Job.objects.filter(due, state=JobState.QUEUED).order_by("created_at")
    for id in waiting.values_list("pk", flat=True)[: settings.ENV.jobs]:
        wake(id)


def _asked(job: Job) -> dict[str, Any]:
    return {key: value for key, value in job.options.items() if key != "digests"}


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
    """At once where nobody works on it; else its worker is asked to."""
    idle = [one for one in frm if one != JobState.RUNNING]
    ended = timezone.now() if state == JobState.CANCELLED else None
    changed = Job.objects.filter(pk=id, state__in=idle).update(
        state=state, not_before=None, finished_at=ended
    ) or Job.objects.filter(pk=id, state=JobState.RUNNING).update(wanted=state)
    job = _get(id)
    if not changed:
        raise JobRefused
    lines.write(job, str(state.value), person=by.get_username() if by else "manage.py")
    if job.state == JobState.CANCELLED:
        cleaning.clean()
    return job


def _is_dead(worker: str) -> bool:
    """Whether it was a process of this machine that is no more."""
    where, _colon, rest = worker.partition(":")
    pid, _colon, created = rest.partition(":")
    if where != _here() or not pid.isdecimal():
        return False
    try:
        began: float = psutil.Process(int(pid)).create_time()
        return abs(began - float(created)) > 1
    except psutil.NoSuchProcess:
        return True
