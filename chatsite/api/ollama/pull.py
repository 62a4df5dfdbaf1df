"""Ollama's `/api/pull`: starts a download and reports its progress.

The download is a job of the server: it continues when the client disconnects, and a second request
joins it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.api.core import http
from chatsite.api.core.http import BadField
from chatsite.api.ollama import common, jobs
from chatsite.api.ollama import types as t
from chatsite.api.ollama.common import NotHere, endpoint
from models_admin.jobs import enqueue, states
from models_admin.models import Job, JobState

_pull = msgspec.json.Decoder(t.Pull)


class PullFailed(jobs.JobFailed):
    code = "pull_failed"
    status = 502

    def __init__(self, text: str) -> None:
        # Ollama's prefix, by which its clients recognize the step that failed.
        super().__init__(f"pull model manifest: {text}")


@endpoint("manage", "POST")
async def pull(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _pull)
    if not body.wanted:
        raise BadField("model is required")

    def ask() -> Job:
        common.may_change(caller, "add")
        job = asked(body.wanted, caller.user)
        common.record_job(request, caller, "model.pulled", job)
        return job

    job = await sync_to_async(ask)()
    return await common.told(statuses(job), stream=body.stream is not False)


def asked(name: str, by: User) -> Job:
    """Return the job that downloads ``name``; one that waits for a retry is resumed now."""
    job, new = enqueue.download(name, by=by)
    if not new and job.state == JobState.QUEUED and job.not_before is not None:
        return states.resume(job.pk, by)
    return job


async def statuses(job: Job) -> AsyncIterator[dict[str, Any]]:
    """Yield the status lines. Raises `PullFailed` if the job fails or is paused."""
    yield {"status": "pulling manifest"}
    told: dict[str, Any] = {}
    async for found in jobs.follow(job, PullFailed):
        digest = _digest(job)
        if found is None or not digest or not found.total:
            continue
        now = {"digest": digest, "total": found.total, "completed": found.done}
        if now != told:
            told = now
            yield {"status": f"pulling {digest[7:19]}", **now}
    if digest := _digest(job):
        size = job.total
        part = {"digest": digest, "total": size, "completed": size}
        yield {"status": f"pulling {digest[7:19]}", **part}
    for status in ("verifying sha256 digest", "writing manifest", "success"):
        yield {"status": status}


def _digest(job: Job) -> str:
    found = job.partial_files
    return f"sha256:{found[0]}" if found else ""


@endpoint("manage", "POST")
async def push(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Refuse: models are never uploaded from this server."""
    if not http.body(request, _pull).wanted:
        raise BadField("model is required")
    raise NotHere
