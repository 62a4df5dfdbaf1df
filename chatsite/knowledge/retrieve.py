"""The passages that answer a question: by words, by vectors, fused, and reranked.

A user gets passages of documents only that they may read at that moment: collections and
attachments are resolved for the user first, the indexes search within them, and the passages are
fetched under the same condition again.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from asgiref.sync import sync_to_async
from django.db.models import Q

from chatsite.accounts.models import User
from chatsite.answers import embedding
from chatsite.answers.runtime import Runtime
from chatsite.conversations.attachments.models import Attachment
from chatsite.errors import ChatsiteError
from chatsite.knowledge import embedding_model
from chatsite.knowledge.embedding_model import EmbeddingModel
from chatsite.knowledge.fusion import fuse
from chatsite.knowledge.index import vectors, words
from chatsite.knowledge.index.words import Hit, Ids
from chatsite.knowledge.models import (
    Collection,
    Document,
    EmbeddingIndex,
    Passage,
)
from chatsite.knowledge.rewrite import standalone
from chatsite.text_terms import mostly_unspaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Passages of each index that are fused, and those of them that tell how well words match.
_DEPTH: Final = 50
_BEST: Final = 3
# A match by words must have this share of the weight of the question's words, or one by vectors
# this cosine; else nothing matched. Values from `bench --knowledge`.
_SHARE: Final = 0.25
# Of pairs of characters, of which a question has more that mean nothing.
_SHARE_UNSPACED: Final = 0.15
_COSINE: Final = 0.3
_EMBED_SECONDS: Final = 8.0
# Passages that a reranker reads, and the relevance without which none is kept.
_RERANKED: Final = 30
_RELEVANT: Final = 0.02
_RERANK_SECONDS: Final = 8.0

Mode = Literal["words", "fused", "reranked"]
# A passage before it is fetched: by its key, or by its owner and number.
_Key = tuple[str, uuid.UUID, int]


@dataclass(frozen=True)
class Scope:
    """What to search; what the user may not read is left out."""

    collections: tuple[uuid.UUID, ...] = ()
    attachments: tuple[uuid.UUID, ...] = ()
    documents: tuple[uuid.UUID, ...] = ()


@dataclass(frozen=True)
class Found:
    """A passage with its BM25 score, its cosine, and its rank, which counts from 1."""

    passage: Passage
    score_words: float | None
    score_vectors: float | None
    rank: int


@dataclass(frozen=True)
class Result:
    """Passages, best first. Empty: nothing matched.

    ``missing`` says why the search was by words alone or incomplete: "no_model", "index_building",
    "engine_unavailable", or "language" if the embedding model was not taught the question's.
    """

    found: tuple[Found, ...]
    searched_documents: int
    mode: Mode
    missing: str = ""


async def retrieve(
    runtime: Runtime,
    user: User,
    question: str,
    scope: Scope,
    *,
    history: Sequence[str] = (),
    limit: int = 8,
) -> Result:
    """Return at most ``limit`` passages that answer ``question``.

    ``history`` has the earlier messages, oldest first: a follow-up is searched with what it refers
    to. Raises `DatabaseError` only.
    """
    ids, searched = await sync_to_async(resolve)(user, scope)
    if ids.empty or not question.strip():
        return Result((), searched, "words")
    question = standalone(question, history)
    model = await sync_to_async(embedding_model.current)()
    index, missing = await sync_to_async(_index)(model, ids)
    vector = None
    if model is not None and not model.knows(question):
        missing = "language"
    elif index is not None and model is not None:
        vector = await _vector(runtime, user, model, question)
        if vector is None:
            missing = "engine_unavailable"
    found, mode = await sync_to_async(search)(user, scope, ids, question, vector, index)
    if len(found) > 1 and (reranked := await _rerank(runtime, user, question, found)) is not None:
        mode, found = "reranked", reranked
    return Result(tuple(found[:limit]), searched, mode, missing)


def search(
    user: User,
    scope: Scope,
    ids: Ids,
    question: str,
    vector: NDArray[np.float32] | None,
    index: EmbeddingIndex | None,
) -> tuple[list[Found], Mode]:
    """Return the passages that match a question, best first, and how they were found.

    ``ids`` is what the user may read of ``scope``; ``vector`` is the question's in ``index``.
    """
    by_words = words.find(question, ids, _DEPTH)
    nearest: list[tuple[_Key, float]] = []
    if vector is not None and index is not None:
        nearest = vectors.find(vector, index, ids, _DEPTH)
    passages = _fetch(user, scope, by_words, nearest)
    least = _SHARE_UNSPACED if mostly_unspaced(question) else _SHARE
    return _ordered(passages, by_words, nearest, least), "fused" if nearest else "words"


def resolve(user: User, scope: Scope) -> tuple[Ids, int]:
    """Return what the user may read of ``scope``, and the number of documents in it."""
    collections = tuple(
        Collection.objects.readable_by(user)
        .filter(pk__in=scope.collections)
        .values_list("pk", flat=True)
        .distinct()
        if scope.collections
        else ()
    )
    documents = tuple(
        Document.objects.filter(
            pk__in=scope.documents, collection__in=Collection.objects.readable_by(user).values("pk")
        ).values_list("pk", flat=True)
        if scope.documents
        else ()
    )
    attachments = tuple(
        Attachment.objects.of(user).filter(pk__in=scope.attachments).values_list("pk", flat=True)
        if scope.attachments
        else ()
    )
    searched = len(attachments)
    if collections or documents:
        wanted = Q(collection__in=collections) | Q(pk__in=documents)
        searched += Document.objects.filter(wanted, characters__gt=0).count()
    return Ids(collections, attachments, documents), searched


def _index(model: EmbeddingModel | None, ids: Ids) -> tuple[EmbeddingIndex | None, str]:
    """Return the index to search, if any, and what is missing of it."""
    index = EmbeddingIndex.objects.filter(state=EmbeddingIndex.State.ACTIVE).first()
    if model is None:
        return None, "no_model"
    if index is None:
        return None, "index_building"
    if index.digest != model.digest:
        # The questions of an earlier model's index need that model.
        older = embedding_model.by_digest(index.digest)
        return (index, "") if older else (None, "index_building")
    without_documents, without_attachments = vectors.without_vectors(index)
    waiting = without_documents.filter(
        Q(collection__in=ids.collections) | Q(pk__in=ids.documents)
    ).exists()
    waiting = waiting or without_attachments.filter(pk__in=ids.attachments).exists()
    return index, "index_building" if waiting else ""


async def _vector(
    runtime: Runtime, user: User, model: EmbeddingModel, question: str
) -> NDArray[np.float32] | None:
    try:
        matrix = await embedding.embed(
            runtime, user, model.name, [model.query(question)], seconds=_EMBED_SECONDS
        )
    except (ChatsiteError, TimeoutError) as error:
        log.warning("The question gets no vector", extra={"model": model.name, "error": error})
        return None
    vector: NDArray[np.float32] = matrix[0]
    return vector


def _fetch(
    user: User, scope: Scope, by_words: Sequence[Hit], nearest: Sequence[tuple[_Key, float]]
) -> dict[int, Passage]:
    """Return the passages of both lists that the user may read, by their keys."""
    wanted = [hit.passage for hit in by_words] + _by_numbers(key for key, _cosine in nearest)
    readable = Collection.objects.readable_by(user).values("pk")
    allowed = Q(document__collection__in=readable) | Q(
        attachment__in=scope.attachments, attachment__owner=user
    )
    rows = Passage.objects.filter(pk__in=wanted).filter(allowed)
    return {
        row.pk: row
        for row in rows.select_related("document", "attachment").defer("attachment__text")
    }


def _by_numbers(keys: Iterable[_Key]) -> list[int]:
    """Return the passages with these owners and numbers."""
    wanted = set(keys)
    found = []
    for kind in ("document", "attachment"):
        owners = {owner for of, owner, _number in wanted if of == kind}
        numbers = {number for of, _owner, number in wanted if of == kind}
        if owners:
            # More than the wanted ones, but one condition in place of one for each.
            rows = Passage.objects.filter(**{f"{kind}__in": owners, "number__in": numbers})
            found += [
                pk
                for pk, owner, number in rows.values_list("pk", kind, "number")
                if (kind, owner, number) in wanted
            ]
    return found


def _ordered(
    passages: dict[int, Passage],
    by_words: Sequence[Hit],
    nearest: Sequence[tuple[_Key, float]],
    least: float,
) -> list[Found]:
    """Return the passages that match, fused by their ranks.

    ``least`` is the share of the question's words that a match by words has.

    The ranking by words counts by the share of the question's words that its best passage has: all
    of them for a name or a code, few for a paraphrase, which vectors find better.
    """
    places: dict[_Key, int] = {
        (
            "document" if one.document_id else "attachment",
            one.document_id or one.attachment_id or uuid.UUID(int=0),
            one.number,
        ): pk
        for pk, one in passages.items()
    }
    scores = {hit.passage: hit.score for hit in by_words if hit.passage in passages}
    shares = {hit.passage: hit.share for hit in by_words}
    cosines = {places[key]: cosine for key, cosine in nearest if key in places}
    best = max((shares[pk] for pk in list(scores)[:_BEST]), default=0.0)
    fused = fuse([list(scores), list(cosines)], [best, 1.0])
    matching = [
        pk
        for pk in fused
        if cosines.get(pk, 0.0) >= _COSINE or (shares.get(pk, 0.0) >= least and pk in scores)
    ]
    distinct: list[int] = []
    seen: set[str] = set()
    for pk in matching:
        text = " ".join(passages[pk].text.split())
        if text not in seen:
            seen.add(text)
            distinct.append(pk)
    return [
        Found(passages[pk], scores.get(pk), cosines.get(pk), rank)
        for rank, pk in enumerate(distinct, 1)
    ]


async def _rerank(
    runtime: Runtime, user: User, question: str, found: Sequence[Found]
) -> list[Found] | None:
    """Return the relevant ones of the first passages, best first; None without a reranker."""
    model = await sync_to_async(embedding_model.reranker)()
    if model is None:
        return None
    first = found[:_RERANKED]
    texts = [one.passage.text for one in first]
    try:
        scores = await embedding.rerank(
            runtime, user, model.name, question, texts, seconds=_RERANK_SECONDS
        )
    except (ChatsiteError, TimeoutError) as error:
        log.warning("Passages are not reranked", extra={"model": model.name, "error": error})
        return None
    order = sorted(zip(scores, first, strict=True), key=lambda one: -one[0])
    relevant = [one for score, one in order if score >= _RELEVANT]
    return [
        Found(one.passage, one.score_words, one.score_vectors, rank)
        for rank, one in enumerate(relevant, 1)
    ]


def as_json(result: Result) -> dict[str, Any]:
    """Return a result as programs get it."""
    return {
        "mode": result.mode,
        "missing": result.missing,
        "searched_documents": result.searched_documents,
        "passages": [
            {
                "id": one.passage.pk,
                "document": str(one.passage.document_id),
                "name": one.passage.document.path if one.passage.document else "",
                "version": one.passage.document.version if one.passage.document else None,
                "heading": one.passage.heading,
                "page": one.passage.page,
                "last_page": one.passage.last_page,
                "start": one.passage.start,
                "end": one.passage.end,
                "text": one.passage.text,
                "score_words": one.score_words,
                "score_vectors": one.score_vectors,
                "rank": one.rank,
            }
            for one in result.found
        ],
    }
