"""`/v1/collections/{id}/documents` and `…/sync`: documents of collections, in step with a folder.

A file is one `PUT` of its bytes at its path. A program that keeps a folder in step sends the hashes
of its files, uploads those that differ, and finishes; then the others are deleted.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import msgspec
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import Scope
from chatsite.api.core import body_stream, http
from chatsite.api.core.by_method import by_method
from chatsite.api.openai.collections import Deleted
from chatsite.errors import BodyTooSlow
from chatsite.knowledge import schema, sync, upload
from chatsite.numbers import natural

_manifest = msgspec.json.Decoder(schema.Manifest)
_BLOCK: Final = 1 << 16


class Documents(msgspec.Struct, frozen=True):
    """The next documents by path. ``next`` is the ``after`` of the next request."""

    data: list[schema.Document]
    next: str | None
    object: str = "list"


class Finished(msgspec.Struct, frozen=True):
    """How many documents were deleted, which the manifest does not have."""

    deleted: int


@http.endpoint("chat", "GET", "HEAD")
async def listed(request: HttpRequest, caller: Caller, id: uuid.UUID) -> HttpResponseBase:
    after = request.GET.get("after", "")
    found, following = await sync_to_async(upload.by_path)(caller.user, id, after)
    return http.answer(Documents(found, following))


@http.endpoint("chat", "GET", "HEAD")
async def _one(request: HttpRequest, caller: Caller, id: uuid.UUID, path: str) -> HttpResponseBase:
    def read() -> schema.Document:
        return upload.serialize(upload.at_path(caller.user, id, path))

    return http.answer(await sync_to_async(read)())


@http.endpoint(Scope.KNOWLEDGE, "PUT", streamed=True)
async def _stored(
    request: ASGIRequest, caller: Caller, id: uuid.UUID, path: str
) -> HttpResponseBase:
    """Store the body as a document. Its ``state`` tells when it has been read."""
    length = natural(request.META.get("CONTENT_LENGTH") or "", 2**63 - 1)
    if not length:
        raise http.BadField("The body must be the file, with a Content-Length.")
    asked = schema.NewDocument(path, length)
    begun = await sync_to_async(upload.begin)(caller.user, id, asked)
    document = uuid.UUID(begun.id)
    number = 0
    async for data in _pieces(request, begun.piece_bytes):
        await sync_to_async(upload.add_piece)(caller.user, document, begun.version, number, data)
        number += 1
    done = await sync_to_async(upload.finish)(caller.user, document, begun.version)
    return http.answer(upload.serialize(done))


async def _pieces(request: ASGIRequest, size: int) -> AsyncIterator[bytes]:
    """Yield the body in pieces of ``size`` bytes. Raises `BadField` or `BodyTooSlow`."""
    body = body_stream.of(request.scope)
    read = body.read if body else partial(asyncio.to_thread, request.read, _BLOCK)
    held = bytearray()
    try:
        while part := await read():
            held += part
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
    except body_stream.TooSlow:
        raise BodyTooSlow from None
    except body_stream.Broken:
        raise http.BadField from None  # the client has disconnected and will not read it
    if held:
        yield bytes(held)


@http.endpoint(Scope.KNOWLEDGE, "DELETE")
async def _removed(
    request: HttpRequest, caller: Caller, id: uuid.UUID, path: str
) -> HttpResponseBase:
    def remove() -> str:
        found = upload.at_path(caller.user, id, path)
        upload.remove(caller.user, found.pk)
        return str(found.pk)

    return http.answer(Deleted(await sync_to_async(remove)()))


one = by_method({"GET": _one, "HEAD": _one, "PUT": _stored, "DELETE": _removed})


@http.endpoint(Scope.KNOWLEDGE, "POST")
async def begin_sync(request: HttpRequest, caller: Caller, id: uuid.UUID) -> HttpResponseBase:
    asked = http.body(request, _manifest)
    return http.answer(await sync_to_async(sync.plan)(caller.user, id, asked.manifest))


@http.endpoint(Scope.KNOWLEDGE, "POST")
async def finish_sync(request: HttpRequest, caller: Caller, id: uuid.UUID) -> HttpResponseBase:
    return http.answer(Finished(await sync_to_async(sync.finish)(caller.user, id)))
