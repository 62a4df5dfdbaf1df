"""Files come in, and their texts can be looked at: JSON for the chat page."""

from __future__ import annotations

import uuid
from typing import Annotated, TypeVar

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods
from msgspec import Meta

from chatsite.accounts.models import User
from chatsite.chat import context
from chatsite.chat.attachments import extract, store
from chatsite.chat.attachments.errors import FileTooLarge, Unreadable
from chatsite.chat.http import json_api
from chatsite.chat.runtime import runtime
from chatsite.errors import BadRequest, ChatsiteError

Body = TypeVar("Body")


class Begin(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=1000)]
    size: Annotated[int, Meta(ge=0)]


class Read(msgspec.Struct, forbid_unknown_fields=True):
    model: Annotated[str, Meta(max_length=200)] = ""


@require_http_methods(["POST"])
@json_api
async def begin(request: HttpRequest, user: User) -> HttpResponse:
    """Announces a file; its pieces follow."""
    asked = _body(request, Begin)
    made = await sync_to_async(store.begin)(user, asked.name, asked.size)
    body = {"attachment": store.serialize(made), "piece_bytes": store.PIECE_BYTES}
    return JsonResponse(body, status=201)


@require_http_methods(["PUT"])
@json_api
async def piece(request: HttpRequest, user: User, id: uuid.UUID, number: int) -> HttpResponse:
    if int(request.META.get("CONTENT_LENGTH") or 0) > store.PIECE_BYTES:
        raise FileTooLarge(limit=settings.ENV.attachment_mb)
    await sync_to_async(store.add_piece)(user, id, number, request.body)
    return HttpResponse(status=204)


@require_http_methods(["POST"])
@json_api
async def read(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Reads the file that has come in whole. One that can't be read is forgotten."""
    asked = _body(request, Read)
    try:
        async with extract.place(runtime().reading):
            name, data = await sync_to_async(store.assembled)(user, id)
            document = await extract.extract(data, settings.ENV.attachment_chars)
    except Unreadable:
        await sync_to_async(store.remove)(user, id)
        raise
    try:
        text = store.framed(id, name, document.text)
        tokens = await context.count(runtime(), user, asked.model, text)
    except ChatsiteError:
        tokens = None  # no model, no figure; the document is read all the same
    made = await sync_to_async(store.finish)(user, id, document, tokens)
    return JsonResponse({"attachment": store.serialize(made)})


@require_http_methods(["GET", "DELETE"])
@json_api
async def attachment(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """The text as the model is given it."""
    if request.method == "DELETE":
        await sync_to_async(store.remove)(user, id)
        return HttpResponse(status=204)
    found = await sync_to_async(store.of_user)(user, id)
    return HttpResponse(found.text, content_type="text/plain; charset=utf-8")


def _body(request: HttpRequest, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except msgspec.DecodeError as error:
        raise BadRequest(reason=str(error)) from error
