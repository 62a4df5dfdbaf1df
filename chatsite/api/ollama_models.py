"""Ollama's endpoints about models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api import http, ollama
from chatsite.api import ollama_types as t
from chatsite.api.http import BadField
from chatsite.api.ollama import NoSuchModel, endpoint
from chatsite.chat.runtime import runtime
from chatsite.errors import ModelMissing
from chatsite.inference import status
from models_admin import catalogue, custom, facts, names, options, versions
from models_admin.models import ModelName

# Of Ollama, whose interface this follows: clients compare it with what they need.
_VERSION = "0.12.0"
# Such a model stays until another one needs the room.
_FOR_EVER = datetime(2318, 1, 1, tzinfo=UTC)
_show = msgspec.json.Decoder(t.Show)
_copy = msgspec.json.Decoder(t.Copy)


@endpoint("models", "GET", "HEAD")
async def version(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    return http.answer({"version": _VERSION})


@endpoint("models", "GET", "HEAD")
async def tags(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    def found() -> list[dict[str, Any]]:
        models = ModelName.objects.filter(enabled=True, version__quarantined="")
        return [_entry(model) for model in models.select_related("version").order_by("-updated_at")]

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
            for model in models
        ]

    return http.answer({"models": await sync_to_async(found)()})


def _expiry(moment: float | None) -> str:
    return ollama.timestamp(datetime.fromtimestamp(moment, UTC) if moment else _FOR_EVER)


@endpoint("models", "POST")
async def show(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _show)
    if not body.wanted:
        raise BadField("model is required")
    return http.answer(await sync_to_async(_shown)(body))


def _shown(body: t.Show) -> dict[str, Any]:
    model = _named(body.wanted)
    made = custom.of(model)
    known = facts.of(model.version)
    details = _entry(model)["details"] | {"parent_model": made.parent}
    return {
        "license": "\n".join(made.licenses),
        "modelfile": custom.as_modelfile(model),
        "parameters": "\n".join(f"{k:30} {v}" for k, v in options.as_lines(made.parameters)),
        "template": made.template or (known.template if known else ""),
        "system": made.system,
        "messages": [{"role": role, "content": text} for role, text in made.messages],
        "details": details,
        "model_info": _info(known, everything=bool(body.verbose)),
        "capabilities": _capabilities(known),
        "modified_at": ollama.timestamp(model.updated_at),
    }


def _capabilities(known: facts.Facts | None) -> list[str]:
    """What clients may ask a model for. Calls of tools too: who writes text can be told of them
    in words where its template knows none."""
    found: list[str] = [*known.abilities] if known else ["completion"]
    return [*found, "tools"] if "completion" in found and "tools" not in found else found


def _info(known: facts.Facts | None, *, everything: bool) -> dict[str, Any]:
    """The keys of the file; lists only where they are wanted, as Ollama has it."""
    if known is None:
        return {}
    lists = known.header.lists if everything else dict.fromkeys(known.header.lengths, ())
    return {**known.header.values, "general.parameter_count": known.parameters, **lists}


def _named(name: str) -> ModelName:
    """One that people may use. Raises `NoSuchModel`, `ModelQuarantined`."""
    try:
        return catalogue.find(name)
    except ModelMissing:
        raise NoSuchModel(name) from None


def _entry(model: ModelName) -> dict[str, Any]:
    known = facts.of(model.version)
    family = known.header.architecture if known else ""
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": ollama.timestamp(model.updated_at),
        "size": model.version.size,
        "digest": model.version_id,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family] if family else [],
            "parameter_size": known.parameter_size if known else "",
            "quantization_level": known.header.quantization if known else "",
        },
        "capabilities": _capabilities(known),
    }


@endpoint("models", "POST")
async def copy(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _copy)

    def act() -> None:
        ollama.may_change(caller, "add")
        names.parse(body.destination)
        versions.copy_name(_named(body.source).name, body.destination)

    await sync_to_async(act)()
    return HttpResponse()


@endpoint("models", "DELETE")
async def delete(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _show)

    def act() -> None:
        ollama.may_change(caller, "delete")
        versions.remove_name(_named(body.wanted).name)

    await sync_to_async(act)()
    return HttpResponse()
