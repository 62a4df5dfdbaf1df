"""`/v1/collections` and `/v1/collections/search`: documents that the key's user may read."""

from __future__ import annotations

from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api.core import http
from chatsite.knowledge import collections, schema
from chatsite.knowledge.views import find

_decoder = msgspec.json.Decoder(schema.Question)


class Collections(msgspec.Struct, frozen=True):
    """All collections that the user may read, by name."""

    data: list[schema.Collection]
    object: str = "list"


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
async def listed(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    return http.answer(Collections(await sync_to_async(collections.listed)(caller.user)))


@http.endpoint("chat", "POST")
async def search(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    found: dict[str, Any] = await find(caller.user, http.body(request, _decoder))
    return http.answer(msgspec.convert(found, SearchResult))
