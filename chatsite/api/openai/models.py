"""`/v1/models`."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api.core import http
from chatsite.api.openai import types as t
from models_admin import catalogue, facts, names
from models_admin.models import ModelName


@http.endpoint("models", "GET", "HEAD")
async def models(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    return http.answer(t.Models(data=await sync_to_async(_offered)(caller)))


@http.endpoint("models", "GET", "HEAD")
async def model(request: HttpRequest, caller: Caller, id: str) -> HttpResponseBase:
    return http.answer(as_model(await sync_to_async(catalogue.find)(id, caller.user)))


def _offered(caller: Caller) -> list[t.Model]:
    found = ModelName.objects.filter(enabled=True, version__quarantined="").served()
    found = found.order_by("name")
    found = found.select_related("version")
    return [as_model(model) for model in catalogue.allowed(found, caller.user)]


def as_model(model: ModelName) -> t.Model:
    return t.Model(
        id=model.name,
        created=int(model.created_at.timestamp()),
        owned_by=names.parse(model.name).namespace,
        capabilities=_capabilities(model),
    )


def _capabilities(model: ModelName) -> list[str]:
    """Return Ollama's capabilities, plus ``chat`` unless the model only continues text."""
    found = facts.capabilities(model)
    chats = "completion" in found and not facts.only_continues(model)
    return ["chat", *found] if chats else found
