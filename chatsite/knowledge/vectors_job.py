"""Vectors of passages: computed by the inference hosts behind the requests of users.

The work is what the index lacks, so it survives any process, and nothing is computed twice but what
was in flight. A change of the model builds a new index while the old one serves.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from django.db import transaction
from django.db.models import Exists, OuterRef

from chatsite.answers import embedding
from chatsite.conversations.attachments.models import Attachment
from chatsite.errors import ChatsiteError
from chatsite.knowledge import embedding_model, index, ingest
from chatsite.knowledge.embedding_model import EmbeddingModel
from chatsite.knowledge.models import Document, EmbeddingIndex, Passage, PassageVectors
from chatsite.redis_client import connect_blocking
from chatsite.redis_keys import VECTORS_LEASE

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Passages per request. Hosts hold these requests while users are answered.
_BATCH: Final = 32
_TASK_SECONDS: Final = 60.0
_LEASE_SECONDS: Final = 90


class _Texts(NamedTuple):
    """The passages of a document or attachment, as the model wants them."""

    kind: str
    owner: uuid.UUID
    texts: list[str]


@dataclass(frozen=True)
class Progress:
    """How many documents and attachments have vectors in an index, of those that need them."""

    model: str
    state: str
    done: int
    total: int


def progress() -> list[Progress]:
    """Return the progress of each index, the active one first."""
    found = []
    documents = Document.objects.filter(Exists(Passage.objects.filter(document=OuterRef("pk"))))
    attachments = Attachment.objects.filter(
        Exists(Passage.objects.filter(attachment=OuterRef("pk")))
    )
    total = documents.count() + attachments.count()
    for one in EmbeddingIndex.objects.order_by("state"):
        done = PassageVectors.objects.filter(index=one).count()
        found.append(Progress(one.model, one.state, min(done, total), total))
    return found


def target(model: EmbeddingModel) -> EmbeddingIndex:
    """Return the index of ``model``, created if necessary. Raises as `embedding.embed`."""
    found = EmbeddingIndex.objects.filter(digest=model.digest).first()
    if found is not None:
        return found
    dimensions = embedding.embed_from_thread(model.name, ["dimensions"]).shape[1]
    with transaction.atomic():
        # An index of an earlier choice that was not finished is not needed any more.
        EmbeddingIndex.objects.filter(state=EmbeddingIndex.State.BUILDING).delete()
        active = EmbeddingIndex.objects.filter(state=EmbeddingIndex.State.ACTIVE).exists()
        return EmbeddingIndex.objects.create(
            digest=model.digest,
            model=model.name,
            dimensions=dimensions,
            state=EmbeddingIndex.State.BUILDING if active else EmbeddingIndex.State.ACTIVE,
        )


def run_for_a_while() -> bool:
    """Compute vectors for about a minute; return whether there is more to do.

    One worker at a time does so: more would not be faster on the same hosts.
    """
    model = embedding_model.current()
    if model is None or not Passage.objects.exists():
        return False
    with _lease() as renew:
        if renew is None:
            return False
        try:
            return _run(model, renew)
        except (ChatsiteError, TimeoutError) as error:
            # The sweep tries again.
            log.warning("Vectors can't be computed now", extra={"error": error})
            return False


def sweep() -> None:
    """Wake a worker if passages have no vectors."""
    model = embedding_model.current()
    if model is None or not Passage.objects.exists():
        return
    into = EmbeddingIndex.objects.filter(digest=model.digest).first()
    building = into is not None and into.state == EmbeddingIndex.State.BUILDING
    if into is None or building or any(rows.exists() for rows in index.without_vectors(into)):
        ingest.wake(ingest.EMBED_TASK)


@contextmanager
def _lease() -> Iterator[Callable[[], object] | None]:
    """Yield a function that renews the lease of the work; None if another worker holds it."""
    token = uuid.uuid4().hex
    with connect_blocking() as redis:
        if not redis.set(VECTORS_LEASE, token, nx=True, ex=_LEASE_SECONDS):
            yield None
            return
        try:
            yield lambda: redis.expire(VECTORS_LEASE, _LEASE_SECONDS)
        finally:
            if redis.get(VECTORS_LEASE) == token.encode():
                redis.delete(VECTORS_LEASE)


def _run(model: EmbeddingModel, renew: Callable[[], object]) -> bool:
    into = target(model)
    until = time.monotonic() + _TASK_SECONDS
    documents, attachments = index.without_vectors(into)
    waiting = [("document", pk) for pk in documents.order_by("pk").values_list("pk", flat=True)]
    waiting += [("attachment", pk) for pk in attachments.values_list("pk", flat=True)]
    for group in _groups(model, waiting):
        renew()
        _compute(into, model, group, renew)
        if time.monotonic() > until:
            return True
    # New ones may have come meanwhile.
    if any(rows.exists() for rows in index.without_vectors(into)):
        return True
    _switch(into)
    return False


def _groups(
    model: EmbeddingModel, waiting: Iterable[tuple[str, uuid.UUID]]
) -> Iterator[list[_Texts]]:
    """Yield documents and attachments with their passages, short ones together: full batches."""
    group: list[_Texts] = []
    for kind, owner in waiting:
        rows = Passage.objects.filter(**{kind: owner}).order_by("number")
        texts = [
            model.passage(f"{heading}\n{text}" if heading else text)
            for heading, text in rows.values_list("heading", "text")
        ]
        group.append(_Texts(kind, owner, texts))
        if sum(len(one.texts) for one in group) >= _BATCH:
            yield group
            group = []
    if group:
        yield group


def _compute(
    into: EmbeddingIndex,
    model: EmbeddingModel,
    group: Sequence[_Texts],
    renew: Callable[[], object],
) -> None:
    texts = [text for one in group for text in one.texts]
    parts: list[NDArray[np.float32]] = [np.zeros((0, into.dimensions), np.float32)]
    for at in range(0, len(texts), _BATCH):
        parts.append(embedding.embed_from_thread(model.name, texts[at : at + _BATCH]))
        renew()
    matrix = np.concatenate(parts)
    at = 0
    for one in group:
        rows = matrix[at : at + len(one.texts)]
        index.put_vectors(into, rows, **{"document": None, "attachment": None, one.kind: one.owner})
        at += len(one.texts)


def _switch(into: EmbeddingIndex) -> None:
    """Make a complete index the active one and delete the former."""
    with transaction.atomic():
        EmbeddingIndex.objects.exclude(pk=into.pk).delete()
        changed = EmbeddingIndex.objects.filter(
            pk=into.pk, state=EmbeddingIndex.State.BUILDING
        ).update(state=EmbeddingIndex.State.ACTIVE)
    if changed:
        log.info("The vectors of another model serve now", extra={"model": into.model})
