"""Jobs of the server as Ollama's clients wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from redis.exceptions import RedisError

from chatsite.chat.runtime import runtime
from chatsite.errors import ChatsiteError
from models_admin.jobs import progress
from models_admin.jobs.progress import Progress
from models_admin.models import Job, JobState

_POLL_SECONDS: Final = 0.5


class JobFailed(ChatsiteError):
    """With the text of what went wrong in the job."""

    code = "job_failed"


async def follow(job: Job, failed: type[JobFailed]) -> AsyncIterator[Progress | None]:
    """How far it is, twice a second until it is done; None where that can't be told. Raises
    ``failed`` when it ends otherwise, or is laid aside. ``job`` is kept up to date."""
    while True:
        await job.arefresh_from_db()
        if job.state == JobState.DONE:
            return
        if job.state not in {JobState.QUEUED, JobState.RUNNING}:
            text = job.error.get("message") or f"the {job.kind} is {job.get_state_display()}"
            raise failed(text)
        try:
            found = await progress.read_async(runtime().redis, [str(job.pk)])
            yield found.get(str(job.pk))
        except RedisError:
            yield None
        await asyncio.sleep(_POLL_SECONDS)
