"""`/v1/rerank`, in the common shape of Jina, Cohere, vLLM and llama-server."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _
from msgspec import UNSET, Meta, UnsetType

from chatsite.accounts.keys import Caller
from chatsite.answers.embedding import relevance
from chatsite.answers.runtime import runtime
from chatsite.api.core import http
from chatsite.api.core.database import in_database
from chatsite.api.core.fan_out import GenerationRequest, ask_all
from chatsite.api.openai.types import EmbeddingUsage
from chatsite.engine.contract.messages import Embed
from chatsite.errors import ChatsiteError, EngineFailed
from chatsite.stream.entries import Vectors
from models_admin import catalogue, facts


class NotAReranker(ChatsiteError):
    code = "not_a_reranker"
    status = 400
    message = _("This model is not a reranker. Choose one whose capabilities include “rerank”.")


class RerankText(msgspec.Struct, frozen=True):
    text: str


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``top_n`` limits the results to the best; with ``return_documents`` they contain the texts.

    Documents that exceed the context together with the query are cut.
    """

    model: str
    query: Annotated[str, Meta(min_length=1)] | RerankText
    documents: Annotated[list[str | RerankText], Meta(min_length=1, max_length=2048)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    user: str | None = None


class RerankResult(msgspec.Struct, frozen=True, kw_only=True):
    """``relevance_score`` is from 0 to 1, ``logit`` the model's own number."""

    index: int
    relevance_score: float
    logit: float
    document: RerankText | UnsetType = UNSET


class RerankUnits(msgspec.Struct, frozen=True):
    search_units: int = 1


class RerankMeta(msgspec.Struct, frozen=True):
    """What Cohere's clients expect."""

    billed_units: RerankUnits = RerankUnits()


class Reranked(msgspec.Struct, frozen=True, kw_only=True):
    """``results`` are sorted by relevance, best first."""

    id: str
    object: str = "list"
    model: str
    results: list[RerankResult]
    usage: EmbeddingUsage
    meta: RerankMeta = RerankMeta()


_decoder = msgspec.json.Decoder(RerankRequest)


@http.endpoint("embed", "POST")
async def rerank(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    texts = tuple(_text(one) for one in body.documents)

    def require_reranker() -> None:
        found = catalogue.find(body.model, caller.user)
        if "rerank" not in facts.nature(found.version).abilities:
            raise NotAReranker

    await in_database(require_reranker)
    embed = Embed("", "", texts, truncate=True, query=_text(body.query))
    wanted = GenerationRequest(body.model, embed=embed, param="documents")
    async with ask_all(runtime(), caller, [wanted]) as answers:
        scores: Vectors | None = None
        async for _index, event in answers.events():
            if isinstance(event, Vectors):
                scores = event
        if scores is None:
            raise EngineFailed
        first = answers.first
        usage = EmbeddingUsage(scores.tokens, scores.tokens)
        results = _results(body, texts, scores)
        answer = Reranked(id=first.id, model=first.model, results=results, usage=usage)
        return http.answer(answer, answers.position)


def _text(one: str | RerankText) -> str:
    return one if isinstance(one, str) else one.text


def _results(body: RerankRequest, texts: tuple[str, ...], scores: Vectors) -> list[RerankResult]:
    logits = np.frombuffer(scores.vectors, dtype="<f4")
    relevant = relevance(scores)
    order = sorted(range(len(texts)), key=lambda index: -logits[index])
    return [
        RerankResult(
            index=index,
            relevance_score=relevant[index],
            logit=float(logits[index]),
            document=RerankText(texts[index]) if body.return_documents else UNSET,
        )
        for index in order[: body.top_n]
    ]
