"""Ollama's `/api/pull`: asks for a download and tells how it goes. The download is the server's
own job: a client that leaves stops nothing, and one that asks again joins it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from redis.exceptions import RedisError

from chatsite.accounts.keys import Caller
from chatsite.api import http, ollama
from chatsite.api import ollama_types as t
from chatsite.api.http import BadField
from chatsite.api.ollama import NotHere, endpoint
from chatsite.chat.runtime import runtime
from chatsite.errors import ChatsiteError
from models_admin.jobs import asking, progress
from models_admin.models import Job, JobState, ModelVersion

_POLL_SECONDS: Final = 0.5
_pull = msgspec.json.Decoder(t.Pull)


class PullFailed(ChatsiteError):
    """With the text of what went wrong in the job."""

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
    if body.stream is not False:
        return await ollama.lines(_told(job))
    last = [told async for told in _told(job)][-1]
    return http.answer(last)


async def _told(job: Job) -> AsyncIterator[dict[str, Any]]:
    """Raises `PullFailed` when the job ends without the model, or is laid aside."""
    yield {"status": "pulling manifest"}
    told: dict[str, Any] = {}
    while True:
        await job.arefresh_from_db()
        if job.state == JobState.DONE:
            break
        if job.state not in {JobState.QUEUED, JobState.RUNNING}:
            text = job.error.get("message") or f"the download is {job.get_state_display()}"
            raise PullFailed(text)
        now = await _state(job)
        if now and now != told:
            told = now
            yield now
        await asyncio.sleep(_POLL_SECONDS)
    if digest := _digest(job):
        size = job.total
        part = {"digest": digest, "total": size, "completed": size}
        yield {"status": f"pulling {digest[7:19]}", **part}
    for status in ("verifying sha256 digest", "writing manifest", "success"):
        yield {"status": status}


async def _state(job: Job) -> dict[str, Any]:
    try:
        found = await progress.read_async(runtime().redis, str(job.pk))
    except RedisError:
        return {}
    digest = _digest(job)
    if found is None or not digest or not found.total:
        return {}
    return {
        "status": f"pulling {digest[7:19]}",
        "digest": digest,
        "total": found.total,
        "completed": found.done,
    }


def _digest(job: Job) -> str:
    found = job.options.get("digests", ())
    return f"sha256:{found[0]}" if found else ""


@endpoint("models", "HEAD", "POST")
async def blob(request: HttpRequest, caller: Caller, digest: str) -> HttpResponseBase:
    """Whether content is here. It does not come in this way: the web server would hold all of
    it in memory."""
    if request.method == "POST":
        raise NotHere
    found = await ModelVersion.objects.filter(digest=digest).aexists()
    return HttpResponse(status=200 if found else 404)


@endpoint("models", "POST")
async def push(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Models stay on this server: nothing is offered to another."""
    raise NotHere
