"""JSON of folders, and of what is done to conversations in them."""

from __future__ import annotations

import uuid
from typing import Annotated

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.chat import organise as work
from chatsite.chat.http import decoded, json_api


class Naming(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


@require_POST
@json_api
async def organise(request: HttpRequest, user: User) -> HttpResponse:
    changed = await work.carry_out(user, decoded(request, work.Order))
    return JsonResponse({"conversations": changed})


@require_POST
@json_api
async def folders(request: HttpRequest, user: User) -> HttpResponse:
    name = decoded(request, Naming).name
    return JsonResponse({"folder": await sync_to_async(work.make_folder)(user, name)}, status=201)


@require_http_methods(["PATCH", "DELETE"])
@json_api
async def folder(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    if request.method == "DELETE":
        await sync_to_async(work.delete_folder)(user, id)
        return HttpResponse(status=204)
    name = decoded(request, Naming).name
    return JsonResponse({"folder": await sync_to_async(work.rename_folder)(user, id, name)})
