"""The part of `manage.py models` that asks for jobs, follows them and changes their course."""

from __future__ import annotations

import json
import threading
import time
from argparse import _SubParsersAction
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from django.db import connections
from django.template.defaultfilters import filesizeformat
from redis import Redis
from redis.exceptions import RedisError

from chatsite.management.progress_line import ProgressLine
from models_admin import catalogue, updates
from models_admin.jobs import asking, importing, lines, progress, run, states
from models_admin.models import Job, JobState, ModelName

_POLL_SECONDS: Final = 0.5
# A worker that runs takes a job within a sweep; after this it is done here.
_PATIENCE_SECONDS: Final = 15.0
_ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED})
_LISTED: Final = 20


class JobActions:
    def __init__(self, stdout: OutputWrapper) -> None:
        self._out = stdout

    @staticmethod
    def add_parsers(actions: _SubParsersAction[Any]) -> None:
        exporting = actions.add_parser("export", help="write models into one file, to carry")
        exporting.add_argument("names", metavar="NAME", nargs="+")
        checking = actions.add_parser("outdated", help="ask the sources for newer versions")
        checking.add_argument("names", metavar="NAME", nargs="*", help="all if none is given")
        listing = actions.add_parser("jobs", help="list the latest jobs")
        listing.add_argument("--json", action="store_true", help="for programs")
        for action, words in (
            ("log", "show what happened in a job"),
            ("pause", "lay a job aside; what it has stays"),
            ("resume", "let a paused, failed or cancelled job go on"),
            ("cancel", "end a job for good"),
            ("follow", "watch a job until it ends"),
        ):
            parser = actions.add_parser(action, help=words)
            parser.add_argument("id", metavar="JOB", help="its number, or how it begins")

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
        """Follows it to its end in a worker, or does it here where no worker is."""
        line = ProgressLine()
        try:
            ended = _watch(job.pk, line) or self._do_here(job.pk, line)
        except KeyboardInterrupt:
            line.end()
            job.refresh_from_db()
            if job.state in _ENDED:
                return
            raise CommandError(
                f"It goes on without this terminal. To watch it: manage.py models follow {job.pk}"
            ) from None
        line.end()
        if ended.state == JobState.FAILED:
            raise CommandError(ended.error.get("message", "The job failed."))
        if ended.state != JobState.DONE:
            raise CommandError(f"The job is {ended.get_state_display()}.")

    def _do_here(self, id: UUID, line: ProgressLine) -> Job:
        """In a thread, so that Ctrl-C can ask it to stop and wait until it has."""

        def work() -> None:
            try:
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
        job, _new = asking.export(names)
        self.attend(job)
        written = job.lines.get(code="exported").values["path"]
        self._out.write(str(importing.folder() / written))

    def _outdated(self, *, names: list[str], **_options: Any) -> None:
        models = [catalogue.require(name) for name in names] or ModelName.objects.all()
        newer, failed = updates.check(models)
        for model in newer:
            self._out.write(f"{model}: there is a newer version. models pull {model.origin}")
        for model, reason in failed:
            self._out.write(f"{model}: {reason}")
        if not newer and not failed:
            self._out.write("Nothing is newer.")

    def _list(self, *, json: bool, **_options: Any) -> None:
        rows = [_as_dict(job) for job in Job.objects.all()[:_LISTED]]
        if json:
            self._out.write(_dumps(rows))
            return
        if not rows:
            self._out.write("No jobs.")
        for row in rows:
            share = f"{row['done'] * 100 // row['total']:>3} %" if row["total"] else "     "
            size = filesizeformat(row["total"]) if row["total"] else ""
            error = row["error"].get("message", "")
            self._out.write(
                f"{row['id'][:8]}  {row['kind']:9} {row['state']:9} {share} {size:>9}  "
                f"{row['target']}  {error}".rstrip()
            )

    def _log(self, *, id: str, **_options: Any) -> None:
        for line in _find(id).lines.all():
            self._out.write(f"{line.at:%Y-%m-%d %H:%M:%S}  {lines.text(line)}")

    def _follow(self, *, id: str, **_options: Any) -> None:
        self.attend(_find(id))

    def _change(self, change: Callable[[UUID], Job], *, id: str, **_options: Any) -> None:
        job = change(_find(id).pk)
        self._out.write(f"{job}: asked for.")


def _watch(id: UUID, line: ProgressLine) -> Job | None:
    """The job when a worker has ended it; None when none takes it."""
    redis = Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    waited = time.monotonic()
    try:
        while True:
            job = Job.objects.get(pk=id)
            if job.state in _ENDED:
                return job
            if job.state == JobState.RUNNING:
                waited = time.monotonic()
                if shown := progress.read(redis, [str(id)]).get(str(id)):
                    line(shown)
            elif job.not_before is not None:
                waited = time.monotonic()
                line.say(f"{job.error.get('message', '')} It is tried again.")
            elif not redis.ping() or time.monotonic() - waited > _PATIENCE_SECONDS:
                return None
            time.sleep(_POLL_SECONDS)
    except RedisError:
        return None
    finally:
        redis.close()


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


def _dumps(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2)
