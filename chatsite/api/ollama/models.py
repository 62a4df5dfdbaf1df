"""Ollama's endpoints for models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.answers.runtime import runtime
from chatsite.api.core import http
from chatsite.api.core.http import BadField
from chatsite.api.ollama import common
from chatsite.api.ollama import types as t
from chatsite.api.ollama.common import NoSuchModel, endpoint
from chatsite.errors import ModelMissing
from chatsite.hosts import status
from chatsite.policy.decisions import ModelNotAllowed
from models_admin import catalogue, facts, names
from models_admin.config import custom, modelfile, options
from models_admin.models import ModelName
from models_admin.store import versions

# The Ollama version whose API this follows; clients compare it with what they need.
_VERSION = "0.12.0"
# The expiry of a model that stays loaded until another one needs the memory.
_FOR_EVER = datetime(2318, 1, 1, tzinfo=UTC)
_show = msgspec.json.Decoder(t.Show)
_copy = msgspec.json.Decoder(t.Copy)


@endpoint("models", "GET", "HEAD")
async def version(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    return http.answer({"version": _VERSION})


@endpoint("models", "GET", "HEAD")
async def tags(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    def found() -> list[dict[str, Any]]:
        models = ModelName.objects.filter(enabled=True, version__quarantined="").served()
        models = models.select_related("version").order_by("-updated_at")
        return [_entry(model) for model in catalogue.allowed(models, caller.user)]

    return http.answer({"models": await sync_to_async(found)()})


@endpoint("models", "GET")
async def running(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    hosts = await status.alive(runtime().redis)
    loaded = {m.name: m for host in hosts for m in host.models if m.state == "ready"}

    def found() -> list[dict[str, Any]]:
        models = ModelName.objects.filter(enabled=True, name__in=loaded).select_related("version")
        return [
            _entry(model)
            | {
                "size": loaded[model.name].rss_bytes,
                "size_vram": 0,
                "expires_at": _expiry(loaded[model.name].expires_at),
                "context_length": loaded[model.name].context,
            }
            for model in catalogue.allowed(models, caller.user)
        ]

    return http.answer({"models": await sync_to_async(found)()})


def _expiry(moment: float | None) -> str:
    return common.timestamp(datetime.fromtimestamp(moment, UTC) if moment else _FOR_EVER)


@endpoint("models", "POST")
async def show(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _show)
    if not body.wanted:
        raise BadField("model is required")
    return http.answer(await sync_to_async(_shown)(body, caller))


def _shown(body: t.Show, caller: Caller) -> dict[str, Any]:
    # Permission to change the server's models includes permission to see all of them.
    model = _named(body.wanted, None if common.may(caller, "change") else caller.user)
    made = custom.of(model)
    known = facts.of(model.version)
    details = _entry(model)["details"] | {"parent_model": made.parent}
    template = made.template or (known.template if known else "")
    licenses = made.licenses or facts.licenses(known)
    return {
        "license": "\n".join(licenses),
        "modelfile": _modelfile(model, made, template, licenses),
        "parameters": "\n".join(f"{k:30} {v}" for k, v in options.as_lines(made.parameters)),
        "template": template,
        "system": made.system,
        "messages": [{"role": role, "content": text} for role, text in made.messages],
        "details": details,
        "model_info": _info(model, known, everything=bool(body.verbose)),
        "tensors": _tensors(known),
        "capabilities": facts.capabilities(model),
        "modified_at": common.timestamp(model.updated_at),
    }


def _modelfile(
    model: ModelName, made: custom.Configuration, template: str, licenses: tuple[str, ...]
) -> str:
    """Return a Modelfile that recreates the model, with its file's template and licences."""
    text = modelfile.write(
        made.parent or model.name,
        parameters=made.parameters,
        # Three quotes end a string, and there is no way to escape them.
        template="" if '"""' in template else template,
        system=made.system,
        licenses=licenses,
        messages=made.messages,
    )
    return f"# To build another model from this one, edit the lines below.\n\n{text}"


def _info(model: ModelName, known: facts.Facts | None, *, everything: bool) -> dict[str, Any]:
    """Return the metadata of the file; lists only with ``everything``, as in Ollama."""
    if known is None:
        return {}
    lists = dict.fromkeys(known.header.lengths)
    whole = facts.lists(model.version) if everything else {}
    return {**known.header.values, "general.parameter_count": known.parameters, **lists, **whole}


def _tensors(known: facts.Facts | None) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "type": one.type, "shape": list(one.shape)}
        for one in (known.header.tensors if known else ())
    ]


def _named(name: str, user: User | None = None) -> ModelName:
    """Return a model that users, or ``user``, may use.

    Raises `NoSuchModel` or `ModelQuarantined`.
    """
    try:
        return catalogue.find(name, user)
    except (ModelMissing, ModelNotAllowed):
        raise NoSuchModel(name) from None


def _entry(model: ModelName) -> dict[str, Any]:
    known = facts.of(model.version)
    family = known.header.architecture if known else ""
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": common.timestamp(model.updated_at),
        "size": model.version.size,
        "digest": model.version_id,
        "details": {
            "parent_model": "",
            "format": "" if model.version.remote else "gguf",
            "family": family,
            "families": [family] if family else [],
            "parameter_size": known.parameter_size if known else "",
            "quantization_level": known.header.quantization if known else "",
        },
        "capabilities": facts.capabilities(model),
    }


@endpoint("manage", "POST")
async def copy(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _copy)

    def act() -> None:
        common.may_change(caller, "add")
        names.parse(body.destination)
        model = versions.copy_name(_named(body.source).name, body.destination)
        common.record_model(request, caller, "model.copied", model, source=body.source)

    await sync_to_async(act)()
    return HttpResponse()


@endpoint("manage", "DELETE")
async def delete(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _show)

    def act() -> None:
        common.may_change(caller, "delete")
        model = _named(body.wanted)
        versions.remove_name(model.name)
        common.record_model(request, caller, "model.deleted", model)

    await sync_to_async(act)()
    return HttpResponse()
