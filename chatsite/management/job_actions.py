"""Actions of `manage.py models` that create, follow and control jobs."""

from __future__ import annotations

import threading
import time
from argparse import _SubParsersAction
from collections.abc import Callable
from functools import partial
from json import dumps
from typing import Any, Final
from uuid import UUID

from django.core.management.base import CommandError, OutputWrapper
from django.db import connections
from redis import Redis
from redis.exceptions import RedisError

from chatsite.management.progress_line import ProgressLine
from chatsite.redis_client import connect_blocking
from chatsite.sizes import file_size
from models_admin import catalogue
from models_admin.jobs import enqueue, importing, job_log, progress, run, states
from models_admin.models import Job, JobState, ModelName
from models_admin.sources import updates

_POLL_SECONDS: Final = 0.5
# A running worker claims a job within one sweep; after this time the job is run here.
PATIENCE_SECONDS: Final = 15.0
_ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED})
_LISTED: Final = 20


class JobActions:
    def __init__(self, stdout: OutputWrapper) -> None:
        self._out = stdout

    @staticmethod
    def add_parsers(actions: _SubParsersAction[Any]) -> None:
        exporting = actions.add_parser(
            "export", help="write models into one file for another server"
        )
        exporting.add_argument("names", metavar="NAME", nargs="+")
        checking = actions.add_parser("outdated", help="check the sources for newer versions")
        checking.add_argument(
            "names", metavar="NAME", nargs="*", help="all models if none is given"
        )
        listing = actions.add_parser("jobs", help="list the latest jobs")
        listing.add_argument("--json", action="store_true", help="write JSON")
        for action, words in (
            ("log", "show the log of a job"),
            ("pause", "pause a job; its partial data are kept"),
            ("resume", "resume a paused, failed or cancelled job"),
            ("cancel", "cancel a job"),
            ("follow", "follow a job until it ends"),
        ):
            parser = actions.add_parser(action, help=words)
            parser.add_argument("id", metavar="JOB", help="ID of the job, or a unique prefix of it")

    def handlers(self) -> dict[str, Callable[..., None]]:
        return {
            "export": self._export,
            "outdated": self._outdated,
            "jobs": self._list,
            "log": self._log,
            "pause": partial(self._change, states.pause),
            "resume": partial(self._change, states.resume),
            "cancel": partial(self._change, states.cancel),
            "follow": self._follow,
        }

    def attend(self, job: Job) -> None:
        """Follow the job until it ends, or run it in this process if there is no worker."""
        line = ProgressLine()
        try:
            ended = _watch(job.pk, line) or self._do_here(job.pk, line)
            while ended.state == JobState.RUNNING:  # a worker has claimed it in the meantime
                ended = _watch(job.pk, line) or self._do_here(job.pk, line)
        except KeyboardInterrupt:
            line.end()
            job.refresh_from_db()
            if job.state in _ENDED:
                return
            raise CommandError(
                "The job continues in the background. To follow it: "
                f"manage.py models follow {job.pk}"
            ) from None
        line.end()
        if ended.state == JobState.FAILED:
            raise CommandError(ended.error.get("message", "The job failed."))
        if ended.state != JobState.DONE:
            raise CommandError(f"The job is {ended.get_state_display()}.")

    def _do_here(self, id: UUID, line: ProgressLine) -> Job:
        """Run the job in a thread, so that Ctrl-C can pause it and wait for that."""

        def work() -> None:
            try:
                states.sweep()  # releases the job if its worker is dead
                run.run(id, show=line)
            finally:
                connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
        except KeyboardInterrupt:
            states.pause(id)
            thread.join()
            raise
        return Job.objects.get(pk=id)

    def _export(self, *, names: list[str], **_options: Any) -> None:
        job, _new = enqueue.export(names)
        self.attend(job)
        written = job.lines.get(code="exported").values["path"]
        self._out.write(str(importing.folder() / written))

    def _outdated(self, *, names: list[str], **_options: Any) -> None:
        models = [catalogue.require(name) for name in names] or ModelName.objects.all()
        newer, failed = updates.check(models)
        for model in newer:
            self._out.write(
                f"{model}: a newer version is available. Run: manage.py models pull {model.origin}"
            )
        for model, reason in failed:
            self._out.write(f"{model}: {reason}")
        if not newer and not failed:
            self._out.write("Everything is up to date.")

    def _list(self, *, json: bool, **_options: Any) -> None:
        rows = [_as_dict(job) for job in Job.objects.all()[:_LISTED]]
        if json:
            self._out.write(dumps(rows, indent=2))
            return
        if not rows:
            self._out.write("No jobs.")
        for row in rows:
            share = f"{row['done'] * 100 // row['total']:>3} %" if row["total"] else "     "
            size = file_size(row["total"]) if row["total"] else ""
            error = row["error"].get("message", "")
            self._out.write(
                f"{row['id'][:8]}  {row['kind']:9} {row['state']:9} {share} {size:>9}  "
                f"{row['target']}  {error}".rstrip()
            )

    def _log(self, *, id: str, **_options: Any) -> None:
        for line in _find(id).lines.all():
            self._out.write(f"{line.at:%Y-%m-%d %H:%M:%S}  {job_log.text(line)}")

    def _follow(self, *, id: str, **_options: Any) -> None:
        self.attend(_find(id))

    def _change(self, change: Callable[[UUID], Job], *, id: str, **_options: Any) -> None:
        job = change(_find(id).pk)
        self._out.write(f"{job}: requested.")


def _watch(id: UUID, line: ProgressLine) -> Job | None:
    """Return the job when a worker has ended it; None if no worker has or claims it.

    A running job is followed in the database: its live progress is missing without Redis.
    """
    redis = connect_blocking()
    waited = time.monotonic()
    try:
        while True:
            job = Job.objects.get(pk=id)
            if job.state in _ENDED:
                return job
            if states.is_leased(job):
                waited = time.monotonic()
                line(_progress(redis, job))
            elif job.not_before is not None and job.state == JobState.QUEUED:
                waited = time.monotonic()
                line.say(f"{job.error.get('message', '')} Retrying.")
            elif time.monotonic() - waited > PATIENCE_SECONDS or not _answers(redis):
                return None
            time.sleep(_POLL_SECONDS)
    finally:
        redis.close()


def _progress(redis: Redis, job: Job) -> progress.Progress:
    """Return the live progress of a running job, or else the progress in the database."""
    id = str(job.pk)
    try:
        found = progress.read(redis, [id]).get(id)
    except RedisError:
        found = None
    return found or progress.Progress(job.stage, job.done, job.total)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def _find(id: str) -> Job:
    hexadecimal = id.replace("-", "").lower()
    found = [job for job in Job.objects.all() if job.pk.hex.startswith(hexadecimal)]
    if len(found) != 1 or not hexadecimal:
        raise states.JobMissing
    return found[0]


def _as_dict(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.pk),
        "kind": job.kind,
        "state": job.state,
        "target": job.target,
        "source": job.source,
        "done": job.done,
        "total": job.total,
        "error": job.error,
        "created_at": job.created_at.isoformat(),
    }
