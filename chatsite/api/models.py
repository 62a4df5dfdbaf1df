"""`/v1/models`."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api import http
from chatsite.api import types as t
from models_admin import catalogue, names
from models_admin.models import ModelName


@http.endpoint("models", "GET", "HEAD")
async def models(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    return http.answer(t.Models(data=await sync_to_async(_offered)()))


@http.endpoint("models", "GET", "HEAD")
async def model(request: HttpRequest, caller: Caller, id: str) -> HttpResponseBase:
    return http.answer(_as_model(await sync_to_async(catalogue.find)(id)))


def _offered() -> list[t.Model]:
    found = ModelName.objects.filter(enabled=True, version__quarantined="").order_by("name")
    return [_as_model(model) for model in found]


def _as_model(model: ModelName) -> t.Model:
    return t.Model(
        id=model.name,
        created=int(model.created_at.timestamp()),
        owned_by=names.parse(model.name).namespace,
    )
