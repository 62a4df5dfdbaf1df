"""Ollama's `/api/create`: makes a model from an installed one or from uploaded blobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api.core import http
from chatsite.api.core.http import BadField
from chatsite.api.ollama import common, jobs
from chatsite.api.ollama import types as t
from chatsite.api.ollama.blobs import parse_digest
from chatsite.api.ollama.common import NoSuchModel, endpoint
from chatsite.audit.record import record
from chatsite.errors import ModelMissing
from models_admin import catalogue
from models_admin.config import custom, modelfile
from models_admin.jobs import enqueue, requests
from models_admin.models import Job

_create = msgspec.json.Decoder(t.Create)


class CreateFailed(jobs.JobFailed):
    code = "create_failed"
    status = 400


@endpoint("manage", "POST")
async def create(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _create)
    if not body.wanted:
        raise BadField("model is required")
    if body.modelfile and not body.source and not body.files:
        body = _parsed(body, body.modelfile)
    if not body.source and not body.files:
        raise BadField("neither 'from' or 'files' was specified")
    job = await sync_to_async(_begin)(body, caller)
    if job is not None:
        common.record_job(request, caller, "model.created", job)
    else:
        target = ("model", body.wanted, body.wanted)
        record("model.created", request=request, user=caller.user, via="ollama", target=target)
    return await common.told(_steps(body, job), stream=body.stream is not False)


def _parsed(body: t.Create, text: str) -> t.Create:
    """Return ``body`` with the fields of the Modelfile ``text``. Raises `BadModelfile`."""
    file = modelfile.parse(text)
    if file.adapter is not None:
        raise BadField("a file named in a Modelfile was not found; send it as a blob")
    return msgspec.structs.replace(
        body,
        source=file.source,
        template=file.template,
        system=file.system,
        license=list(file.licenses),
        parameters=file.parameters,
        messages=[t.Message(role, content) for role, content in file.messages],
    )


def _begin(body: t.Create, caller: Caller) -> Job | None:
    """Return the job that creates the model.

    None if the model was created immediately, as is possible when the weights stay unchanged.
    """
    common.may_change(caller, "add")
    file = _modelfile(body)
    kind = body.quantize or ""
    try:
        if not body.source:
            files = {name: parse_digest(digest) for name, digest in (body.files or {}).items()}
            return enqueue.create(body.wanted, file, files, kind, by=caller.user)[0]
        if kind:
            return enqueue.quantize(body.source, kind, body.wanted, file=file, by=caller.user)[0]
        custom.make(body.wanted, file)
    except ModelMissing:
        raise NoSuchModel(body.source) from None
    return None


def _modelfile(body: t.Create) -> modelfile.Modelfile:
    licenses = [body.license] if isinstance(body.license, str) else body.license or []
    file = modelfile.Modelfile(
        source=body.source,
        parameters=modelfile.checked(body.parameters or {}),
        template=body.template,
        system=body.system,
        adapter=next(iter(body.adapters.values())) if body.adapters else None,
        licenses=tuple(licenses),
        messages=tuple((modelfile.role(m.role), m.content or "") for m in body.messages or ()),
    )
    if b"\\u0000" in msgspec.json.encode(file):
        raise BadField("NUL characters are not allowed")
    return file


async def _steps(body: t.Create, job: Job | None) -> AsyncIterator[dict[str, Any]]:
    """Yield the status lines of the creation. Raises `CreateFailed`."""
    if job is None:
        yield {"status": "using existing layer"}
    else:
        yield {"status": "parsing GGUF" if body.files else "using existing layer"}
        async for step in _followed(job):
            yield step
        model = await sync_to_async(catalogue.installed)(body.wanted)
        if model:
            yield {"status": f"creating new layer sha256:{model.version_id}"}
    for status in ("writing manifest", "success"):
        yield {"status": status}


async def _followed(job: Job) -> AsyncIterator[dict[str, Any]]:
    request = requests.of(job)
    quantization = ""
    if isinstance(request, requests.CreateModel | requests.Quantize):
        quantization = request.quantization
    told: dict[str, Any] = {}
    now: dict[str, Any]
    async for found in jobs.follow(job, CreateFailed):
        if found is None:
            continue
        if found.stage == "quantizing":
            now = {
                "status": f"quantizing model to {quantization}",
                "digest": "0" * 19,
                "total": found.total,
                "completed": found.done,
            }
        else:
            now = {"status": _STAGES.get(found.stage, "")}
        if now != told and now["status"]:
            told = now
            yield now


_STAGES = {"writing": "merging parts", "testing": "verifying model"}
