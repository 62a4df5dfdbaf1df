"""Uploads of attachments, and their texts: JSON for the chat page."""

from __future__ import annotations

import uuid
from typing import Annotated

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods
from msgspec import Meta

from chatsite.accounts.models import User
from chatsite.answers.runtime import runtime
from chatsite.chat import context
from chatsite.conversations.attachments import selection, storage
from chatsite.conversations.attachments.models import Attachment
from chatsite.documents import extract
from chatsite.documents.errors import FileTooLarge, Unreadable
from chatsite.errors import ChatsiteError
from chatsite.json_api import answered, decoded, json_api
from chatsite.knowledge import citations
from chatsite.knowledge.turns import put_attachment
from chatsite.numbers import natural
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from models_admin import catalogue


class Begin(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=1000)]
    size: Annotated[int, Meta(ge=0)]


class Read(msgspec.Struct, forbid_unknown_fields=True):
    model: Annotated[str, Meta(max_length=200)] = ""


@require_http_methods(["POST"])
@json_api
async def begin(request: HttpRequest, user: User) -> HttpResponse:
    """Start an upload; its pieces follow."""
    asked = decoded(request, Begin)

    def start() -> Attachment:
        decisions.require(user, Feature.ATTACHMENTS)
        return storage.start_upload(user, asked.name, asked.size)

    made = await sync_to_async(start)()
    body = {"attachment": storage.serialize(made), "piece_bytes": storage.PIECE_BYTES}
    return answered(body, status=201)


@require_http_methods(["PUT"])
@json_api
async def piece(request: HttpRequest, user: User, id: uuid.UUID, number: int) -> HttpResponse:
    if natural(request.META.get("CONTENT_LENGTH") or "0", storage.PIECE_BYTES) is None:
        raise FileTooLarge(limit=settings.ENV.attachment_mb)
    await sync_to_async(storage.add_piece)(user, id, number, request.body)
    return HttpResponse(status=204)


@require_http_methods(["POST"])
@json_api
async def read(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Read a file that is uploaded completely. A file that can't be read is deleted."""
    asked = decoded(request, Read)
    try:
        async with runtime().reading.hold(user.pk):
            name, data = await sync_to_async(storage.assembled)(user, id)
            document = await extract.extract(data, settings.ENV.attachment_chars)
    except Unreadable:
        await sync_to_async(storage.remove)(user, id)
        raise
    try:
        text = storage.framed(id, name, document.text)
        tokens = await context.count(runtime(), user, asked.model, text)
    except ChatsiteError:
        tokens = None  # no count without a model; the document is usable all the same
    made = await sync_to_async(storage.finish)(user, id, document, tokens)
    await sync_to_async(_index_long)(made, asked.model, user)
    return answered({"attachment": storage.serialize(made)})


def _index_long(attachment: Attachment, model: str, user: User) -> None:
    """Put an attachment that doesn't fit into the context in the index, before it is sent."""
    try:
        context = catalogue.context(catalogue.find(model, user))
    except ChatsiteError:
        return  # it is put in the index when it is searched
    if "" in selection.choose([attachment], (), context).values():
        put_attachment(attachment)


@require_http_methods(["GET"])
@json_api
async def text(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Return the text of an attachment, or of one of its pages, as the viewer of passages shows it.

    ``start`` is the first character of what is returned.
    """
    found = await sync_to_async(storage.of_user)(user, id)
    starts = found.page_starts or []
    page = natural(request.GET.get("page", ""), len(starts)) or None
    start, end = 0, len(found.text)
    if page is not None:
        start, end = [*starts, end][page - 1 : page + 1]
    return answered(
        {
            "name": found.name,
            "kind": found.kind,
            "pages": found.pages,
            "page": page,
            "text": found.text[start:end],
            "start": start,
            "page_starts": starts,
        }
    )


@require_http_methods(["GET"])
@json_api
async def citation(
    request: HttpRequest, user: User, message: uuid.UUID, number: int
) -> HttpResponse:
    """Return a cited passage of an answer with its place in its document."""
    return answered(await sync_to_async(citations.quoted)(user, message, number))


@require_http_methods(["GET", "DELETE"])
@json_api
async def attachment(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Return the text as the model gets it, or delete an unsent attachment."""
    if request.method == "DELETE":
        await sync_to_async(storage.remove)(user, id)
        return HttpResponse(status=204)
    found = await sync_to_async(storage.of_user)(user, id)
    return HttpResponse(found.text, content_type="text/plain; charset=utf-8")
