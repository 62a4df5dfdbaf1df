"""Ollama's `/api/pull`: asks for a download and tells how it goes. The download is the server's
own job: a client that leaves stops nothing, and one that asks again joins it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api import http, ollama, ollama_jobs
from chatsite.api import ollama_types as t
from chatsite.api.http import BadField
from chatsite.api.ollama import NotHere, endpoint
from models_admin.jobs import asking
from models_admin.models import Job

_pull = msgspec.json.Decoder(t.Pull)


class PullFailed(ollama_jobs.JobFailed):
    code = "pull_failed"
    status = 502


@endpoint("models", "POST")
async def pull(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _pull)
    if not body.wanted:
        raise BadField("model is required")

    def ask() -> Job:
        ollama.may_change(caller, "add")
        return asking.download(body.wanted, by=caller.user)[0]

    job = await sync_to_async(ask)()
    return await ollama.told(_told(job), stream=body.stream is not False)


async def _told(job: Job) -> AsyncIterator[dict[str, Any]]:
    """Raises `PullFailed` when the job ends without the model, or is laid aside."""
    yield {"status": "pulling manifest"}
    told: dict[str, Any] = {}
    async for found in ollama_jobs.follow(job, PullFailed):
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
    found = job.options.get("digests", ())
    return f"sha256:{found[0]}" if found else ""


@endpoint("models", "POST")
async def push(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Models stay on this server: nothing is offered to another."""
    if not http.body(request, _pull).wanted:
        raise BadField("model is required")
    raise NotHere
