"""JSON endpoints of collections and their documents, for the page."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.answers.runtime import runtime
from chatsite.documents.errors import FileTooLarge
from chatsite.json_api import answered, decoded, json_api
from chatsite.knowledge import collections, schema, sync, upload
from chatsite.knowledge.errors import DocumentMissing
from chatsite.knowledge.models import Collection, Document, DocumentText, Passage
from chatsite.knowledge.retrieve import Scope, as_json, retrieve
from chatsite.numbers import natural
from chatsite.policy import decisions
from chatsite.policy.features import Feature

T = TypeVar("T")
# Characters of a document without pages that are shown at a time.
_SHOWN_CHARS: Final = 40_000
_PDF: Final = "application/pdf"


async def _run(work: Callable[..., T], *values: Any) -> T:
    return await sync_to_async(work)(*values)


# Collections.


@require_http_methods(["GET", "POST"])
@json_api
async def all_collections(request: HttpRequest, user: User) -> HttpResponse:
    if request.method == "POST":
        made = await _run(collections.create, user, decoded(request, schema.NewCollection))
        return answered({"collection": await _run(collections.described, user, made)}, status=201)
    return answered({"collections": await _run(collections.listed, user)})


@require_http_methods(["GET", "PATCH", "DELETE"])
@json_api
async def collection(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    if request.method == "DELETE":
        await _run(collections.delete, user, id)
        return HttpResponse(status=204)
    if request.method == "PATCH":
        asked = decoded(request, schema.CollectionChange)
        found = await _run(collections.change, user, id, asked)
    else:
        found = await _run(collections.readable, user, id)
    return answered({"collection": await _run(collections.described, user, found)})


@require_http_methods(["GET", "PUT"])
@json_api
async def shares(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    if request.method == "PUT":
        asked = decoded(request, schema.Shares)
        found = await _run(collections.set_shares, user, id, asked.shares)
    else:
        found = await _run(collections.managed, user, id)
    return answered({"shares": await _run(collections.shares, found)})


@require_GET
@json_api
async def people(request: HttpRequest, user: User) -> HttpResponse:
    """Return users and groups to share with."""
    text = request.GET.get("q", "")[:100]

    def find() -> list[schema.Share]:
        decisions.require(user, Feature.KNOWLEDGE)
        return collections.people(user, text)

    return answered({"people": await _run(find)})


# Documents.


@require_http_methods(["GET", "POST", "PATCH", "DELETE"])
@json_api
async def documents(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """List a folder, start an upload, move a folder, or delete it with its documents."""
    folder = request.GET.get("folder", "")
    if request.method == "POST":
        begun = await _run(upload.begin, user, id, decoded(request, schema.NewDocument))
        return answered(begun, status=201)
    if request.method == "PATCH":
        path = decoded(request, schema.Move).path
        return answered({"moved": await _run(upload.move_folder, user, id, folder, path)})
    if request.method == "DELETE":
        return answered({"deleted": await _run(upload.remove_folder, user, id, folder)})
    after = request.GET.get("after", "")
    folders, found, following = await _run(upload.listed, user, id, folder, after)
    return answered({"folders": folders, "documents": found, "next": following})


@require_http_methods(["PUT"])
@json_api
async def piece(
    request: HttpRequest, user: User, id: uuid.UUID, version: int, number: int
) -> HttpResponse:
    if natural(request.META.get("CONTENT_LENGTH") or "0", upload.PIECE_BYTES) is None:
        raise FileTooLarge(limit=settings.ENV.document_mb)
    await _run(upload.add_piece, user, id, version, number, request.body)
    return HttpResponse(status=204)


@require_POST
@json_api
async def finish(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    version = decoded(request, schema.Finish).version
    found = await _run(upload.finish, user, id, version)
    return answered({"document": upload.serialize(found)})


@require_http_methods(["GET", "DELETE"])
@json_api
async def document(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    if request.method == "DELETE":
        await _run(upload.remove, user, id)
        return HttpResponse(status=204)
    found = await _run(upload.readable, user, id)
    return answered({"document": upload.serialize(found)})


@require_POST
@json_api
async def move(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    path = decoded(request, schema.Move).path
    return answered({"document": upload.serialize(await _run(upload.move, user, id, path))})


@require_POST
@json_api
async def retry(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    return answered({"document": upload.serialize(await _run(upload.retry, user, id))})


@require_GET
@json_api
async def file(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponseBase:
    """Return the original. Only a PDF is shown by the browser; others are downloaded."""

    def load() -> tuple[Document, bytes]:
        found = upload.readable(user, id)
        return found, upload.content(found)

    found, data = await _run(load)
    shown = found.kind == "pdf" and data.startswith(b"%PDF-")
    response = HttpResponse(data, content_type=_PDF if shown else "application/octet-stream")
    name = quote(found.path.rpartition("/")[2])
    disposition = "inline" if shown else "attachment"
    response["Content-Disposition"] = f"{disposition}; filename*=UTF-8''{name}"
    response["X-Content-Type-Options"] = "nosniff"
    # Rights may change at any time.
    patch_cache_control(response, private=True, no_store=True)
    return response


@require_GET
@json_api
async def text(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Return a page of the text, or a part of one without pages, counted from 1."""
    page = natural(request.GET.get("page") or "1", 10_000_000) or 1

    def load() -> dict[str, Any]:
        found = upload.readable(user, id)
        stored = DocumentText.objects.filter(document=found).first()
        if stored is None:
            raise DocumentMissing
        starts = stored.page_starts or list(range(0, max(1, len(stored.text)), _SHOWN_CHARS))
        at = min(page, len(starts))
        end = starts[at] if at < len(starts) else len(stored.text)
        return {
            "name": found.path.rpartition("/")[2],
            "kind": found.kind,
            "pages": len(starts),
            "page": at,
            "text": stored.text[starts[at - 1] : end],
            "start": starts[at - 1],
            "page_starts": starts,
        }

    return answered(await _run(load))


@require_GET
@json_api
async def passage(request: HttpRequest, user: User, id: int) -> HttpResponse:
    def load() -> dict[str, Any]:
        allowed = Collection.objects.readable_by(user).values("pk")
        found = (
            Passage.objects.filter(pk=id, document__collection__in=allowed)
            .select_related("document")
            .first()
        )
        if found is None or found.document is None:
            raise DocumentMissing
        page = found.page
        if page is None:
            # The part in which `text` returns it.
            page = bisect_right(range(0, found.start + 1, _SHOWN_CHARS), found.start)
        return {
            "document": str(found.document.pk),
            "name": found.document.path.rpartition("/")[2],
            "page": page,
            "last_page": found.last_page or page,
            "start": found.start,
            "end": found.end,
            "text": found.text,
            "heading": found.heading,
        }

    return answered(await _run(load))


# Folders of the user's machine, and search.


@require_POST
@json_api
async def begin_sync(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    manifest = decoded(request, schema.Manifest).manifest
    return answered(await _run(sync.plan, user, id, manifest), status=201)


@require_POST
@json_api
async def finish_sync(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    return answered({"deleted": await _run(sync.finish, user, id)})


@require_POST
@json_api
async def search(request: HttpRequest, user: User) -> HttpResponse:
    asked = decoded(request, schema.Question)
    return answered(await find(user, asked))


async def find(user: User, asked: schema.Question) -> dict[str, Any]:
    """Search collections, all that the user may read if none are named."""

    def scope() -> Scope:
        decisions.require(user, Feature.KNOWLEDGE)
        if not asked.collections:
            rows = Collection.objects.readable_by(user).values_list("pk", flat=True)
            return Scope(tuple(rows.distinct()))
        return Scope(tuple(collections.by_name(user, one).pk for one in asked.collections))

    found = await retrieve(runtime(), user, asked.query, await _run(scope), limit=asked.limit)
    return as_json(found)
