"""Progress of server jobs for clients of Ollama's API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from redis.exceptions import RedisError

from chatsite.answers.runtime import runtime
from chatsite.errors import ChatsiteError
from models_admin.jobs import progress
from models_admin.jobs.progress import Progress
from models_admin.models import Job, JobState

_POLL_SECONDS: Final = 0.5


class JobFailed(ChatsiteError):
    """A failed job, with the job's error message."""

    code = "job_failed"


def is_put_off(job: Job) -> bool:
    """Return whether the job is waiting for a retry after an attempt that made no progress.

    A client would otherwise learn the reason only after hours of attempts. A job that broke off in
    the middle resumes within half a minute, so the client keeps waiting for it.
    """
    waits = job.state == JobState.QUEUED and job.not_before is not None and bool(job.error)
    return waits and (job.failures > 1 or not job.done)


async def follow(job: Job, failed: type[JobFailed]) -> AsyncIterator[Progress | None]:
    """Yield the progress twice a second until the job is done; None if it is unavailable.

    Raises ``failed`` when the job ends otherwise, is paused, or waits for a retry after an attempt
    without progress. Refreshes ``job`` from the database.
    """
    while True:
        await job.arefresh_from_db()
        if job.state == JobState.DONE:
            return
        if job.state not in {JobState.QUEUED, JobState.RUNNING}:
            text = job.error.get("message") or f"the {job.kind} is {job.get_state_display()}"
            raise failed(text)
        if is_put_off(job):
            raise failed(f"{job.error.get('message')} The server will retry automatically.")
        try:
            found = await progress.read_async(runtime().redis, [str(job.pk)])
            yield found.get(str(job.pk))
        except RedisError:
            yield None
        await asyncio.sleep(_POLL_SECONDS)
