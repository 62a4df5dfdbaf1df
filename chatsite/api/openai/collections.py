"""`/v1/collections` and `/v1/collections/search`: collections that the key's user may read."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import Scope
from chatsite.api.core import http
from chatsite.api.core.by_method import by_method
from chatsite.knowledge import collections, schema
from chatsite.knowledge.views import find

_question = msgspec.json.Decoder(schema.Question)
_new = msgspec.json.Decoder(schema.NewCollection)
_change = msgspec.json.Decoder(schema.CollectionChange)


class Collections(msgspec.Struct, frozen=True):
    """All collections that the user may read, by name."""

    data: list[schema.Collection]
    object: str = "list"


class Deleted(msgspec.Struct, frozen=True):
    """What was deleted."""

    id: str
    deleted: bool = True


class FoundPassage(msgspec.Struct, frozen=True):
    """A passage: ``start`` and ``end`` are characters of the document's text, pages count from 1.

    ``score_words`` is BM25, ``score_vectors`` a cosine; null where the passage was not found so.
    """

    id: int
    document: str
    name: str
    version: int | None
    heading: str
    page: int | None
    last_page: int | None
    start: int
    end: int
    text: str
    score_words: float | None
    score_vectors: float | None
    rank: int


class SearchResult(msgspec.Struct, frozen=True):
    """The best passages first. ``missing`` says why a search was by words alone."""

    mode: str
    missing: str
    searched_documents: int
    passages: list[FoundPassage]


@http.endpoint("chat", "GET", "HEAD")
async def _listed(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    return http.answer(Collections(await sync_to_async(collections.listed)(caller.user)))


@http.endpoint(Scope.KNOWLEDGE, "POST")
async def _created(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    asked = http.body(request, _new)

    def create() -> schema.Collection:
        return collections.described(caller.user, collections.create(caller.user, asked))

    return http.answer(await sync_to_async(create)())


@http.endpoint("chat", "GET", "HEAD")
async def _one(request: HttpRequest, caller: Caller, id: uuid.UUID) -> HttpResponseBase:
    def read() -> schema.Collection:
        return collections.described(caller.user, collections.readable(caller.user, id))

    return http.answer(await sync_to_async(read)())


@http.endpoint(Scope.KNOWLEDGE, "PATCH")
async def _changed(request: HttpRequest, caller: Caller, id: uuid.UUID) -> HttpResponseBase:
    asked = http.body(request, _change)

    def change() -> schema.Collection:
        return collections.described(caller.user, collections.change(caller.user, id, asked))

    return http.answer(await sync_to_async(change)())


@http.endpoint(Scope.KNOWLEDGE, "DELETE")
async def _deleted(request: HttpRequest, caller: Caller, id: uuid.UUID) -> HttpResponseBase:
    await sync_to_async(collections.delete)(caller.user, id)
    return http.answer(Deleted(str(id)))


every = by_method({"GET": _listed, "HEAD": _listed, "POST": _created})
one = by_method({"GET": _one, "HEAD": _one, "PATCH": _changed, "DELETE": _deleted})


@http.endpoint("chat", "POST")
async def search(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    found: dict[str, Any] = await find(caller.user, http.body(request, _question))
    return http.answer(msgspec.convert(found, SearchResult))
