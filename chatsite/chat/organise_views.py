"""JSON endpoints for folders and bulk changes of conversations."""

from __future__ import annotations

import uuid
from typing import Annotated

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.chat import organise as work
from chatsite.conversations.hints import list_changed
from chatsite.json_api import answered, decoded, json_api

_KINDS = {"delete": "conversation.deleted", "restore": "conversation.restored"}


class Naming(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


@require_POST
@json_api
async def organise(request: HttpRequest, user: User) -> HttpResponse:
    order = decoded(request, work.BulkAction)
    changed = await work.apply(user, order)
    if kind := _KINDS.get(order.action):
        record_conversations(kind, request, user, [one.id for one in changed])
    return answered({"conversations": changed})


@require_POST
@json_api
async def folders(request: HttpRequest, user: User) -> HttpResponse:
    made = await sync_to_async(work.make_folder)(user, decoded(request, Naming).name)
    await list_changed(user.pk)
    return answered({"folder": made}, status=201)


@require_http_methods(["PATCH", "DELETE"])
@json_api
async def folder(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    if request.method == "DELETE":
        await sync_to_async(work.delete_folder)(user, id)
        await list_changed(user.pk)
        return HttpResponse(status=204)
    renamed = await sync_to_async(work.rename_folder)(user, id, decoded(request, Naming).name)
    await list_changed(user.pk)
    return answered({"folder": renamed})


def record_conversations(kind: str, request: HttpRequest, user: User, ids: list[str]) -> None:
    """Record a change of conversations, named by their IDs: a title is content."""
    target = ("conversation", ids[0], "") if len(ids) == 1 else None
    several = ids if len(ids) > 1 else None
    record(kind, request=request, user=user, target=target, count=len(ids), ids=several)
