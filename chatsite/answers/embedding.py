"""Vectors and relevance scores for the product's own use, through the queue like any request.

Each request is a generation. Those of a user are within the user's policy and quotas; those of the
product itself, without a user, are batches (`contract.messages.BATCH`), behind all others, and are
retried when a host fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError

from chatsite.accounts.models import User
from chatsite.answers import admission
from chatsite.answers.admission import Admitted
from chatsite.answers.queue.request import QueuedRequest
from chatsite.answers.runtime import Runtime, close_runtime, runtime
from chatsite.answers.submit import enqueue, stop_request
from chatsite.conversations.models import Generation, Via
from chatsite.engine.contract.messages import API, BATCH, Embed
from chatsite.errors import ChatsiteError, EngineFailed, Interrupted, revived
from chatsite.stream.entries import End, Vectors
from models_admin import catalogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# The owner of the product's own requests in the queue.
_OWN: Final = "0"
_SECONDS: Final = 60.0
_BATCH_SECONDS: Final = 600.0
# Pauses before a batch that failed for a temporary reason is queued again.
_RETRY_SECONDS: Final = (1.0, 5.0, 20.0)


async def embed(
    runtime: Runtime,
    user: User | None,
    model: str,
    texts: Sequence[str],
    *,
    seconds: float = _SECONDS,
) -> NDArray[np.float32]:
    """Return the vectors of ``texts``, of unit length, as a matrix with one row each.

    A text longer than the model's context is cut.

    Raises `TimeoutError` after ``seconds``, and as `catalogue.find`, `admission.admit` and
    `enqueue`; `EngineFailed` or the engine's own error if it can't be computed.
    """
    request = Embed("", "", tuple(texts), truncate=True, batch=user is None)
    for pause in _RETRY_SECONDS if user is None else ():
        try:
            return _matrix(await _compute(runtime, user, model, request, seconds))
        except ChatsiteError as error:
            if error.permanent:
                raise
            log.warning("Batch of vectors is queued again", extra={"error": error})
        await asyncio.sleep(pause)
    return _matrix(await _compute(runtime, user, model, request, seconds))


async def rerank(
    runtime: Runtime,
    user: User,
    model: str,
    query: str,
    texts: Sequence[str],
    *,
    seconds: float = _SECONDS,
) -> list[float]:
    """Return the relevance of each text to ``query``, from 0 to 1, in the order of ``texts``.

    Raises as `embed`, and `RequestRefused` if the model is not a reranker.
    """
    if not texts:
        return []
    request = Embed("", "", tuple(texts), truncate=True, query=query)
    return relevance(await _compute(runtime, user, model, request, seconds))


def relevance(found: Vectors) -> list[float]:
    """Return the scores of a reranker, which are logits, as numbers from 0 to 1."""
    logits = np.frombuffer(found.vectors, dtype="<f4").astype(np.float64)
    return [float(one) for one in 1.0 / (1.0 + np.exp(-np.clip(logits, -500, 500)))]


def _matrix(found: Vectors) -> NDArray[np.float32]:
    return np.frombuffer(found.vectors, dtype="<f4").reshape(-1, found.size)


async def _compute(
    runtime: Runtime, user: User | None, model: str, request: Embed, seconds: float
) -> Vectors:
    id = str(uuid.uuid4())
    admitted = await sync_to_async(_save)(id, user, model, request)
    try:
        await enqueue(runtime, admitted)
    except ChatsiteError:
        await sync_to_async(_discard)(id)
        raise
    end: End | None = None
    vectors: Vectors | None = None
    try:
        async with asyncio.timeout(seconds), runtime.hub.follow(id, admitted.job.model) as feed:
            while feed.end is None:
                change = feed.next_change()
                if feed.torn:
                    raise Interrupted
                if feed.end is None:
                    await change.wait()
            end, vectors = feed.end, feed.vectors
    finally:
        if end is None:
            await asyncio.shield(_stop(runtime, id))
    if end.error is not None:
        raise revived(end.error) or EngineFailed(end.error.get("message"))
    if end.state != "done" or vectors is None:
        raise Interrupted
    return vectors


def embed_from_thread(model: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Call `embed` for the product itself, from a thread without an event loop."""

    async def ask() -> NDArray[np.float32]:
        try:
            return await embed(runtime(), None, model, texts, seconds=_BATCH_SECONDS)
        finally:
            await close_runtime()

    return async_to_sync(ask)()


def _save(id: str, user: User | None, model: str, request: Embed) -> Admitted:
    found = catalogue.find(model, user)
    owner = str(user.pk) if user else _OWN
    job = QueuedRequest(
        id=id,
        owner=owner,
        model=found.name,
        messages=(),
        queued_at=time.time(),
        priority=BATCH if user is None else API,
        embed=msgspec.structs.replace(request, id=id, owner=owner),
    )
    if user is None:
        admitted = Admitted(job)
    else:
        admitted = admission.admit(job, context=catalogue.context(found))
    Generation.objects.create(id=id, owner=user, via=Via.KNOWLEDGE, model=found.name)
    return admitted


def _discard(id: str) -> None:
    Generation.objects.filter(pk=id).delete()
    admission.withdraw(id)


async def _stop(runtime: Runtime, id: str) -> None:
    """Stop a request that is not waited for any more. The reaper ends what can't be stopped now."""
    row = await Generation.objects.filter(pk=id).afirst()
    try:
        if row is not None:
            await stop_request(runtime.queue, runtime.publisher, row)
    except (ChatsiteError, DatabaseError) as error:
        log.warning("Generation can't be stopped yet", extra={"generation": id, "error": error})
