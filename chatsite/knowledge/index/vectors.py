"""Passages by their vectors: an exact scan of what is searched, document by document."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from chatsite.conversations.attachments.models import Attachment
from chatsite.knowledge.index.words import Ids
from chatsite.knowledge.models import (
    Document,
    DocumentState,
    EmbeddingIndex,
    Passage,
    PassageVectors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STORED: Final = np.dtype("<f2")
# Rows that are fetched and compared at a time: the memory that a search takes.
_BLOCK: Final = 200


def put_vectors(
    index: EmbeddingIndex,
    matrix: NDArray[Any],
    *,
    document: uuid.UUID | None = None,
    attachment: uuid.UUID | None = None,
) -> bool:
    """Store the vectors of all passages of a document or attachment, in their order.

    ``matrix`` has one row of unit length for each passage. False, and nothing is stored, if the
    passages have changed meanwhile. Raises `ValueError` for another number of dimensions.
    """
    if matrix.ndim != 2 or matrix.shape[1] != index.dimensions:
        raise ValueError(f"vectors of {index.dimensions} dimensions, not {matrix.shape}")
    with transaction.atomic():
        present = Passage.objects.filter(document=document, attachment=attachment).count()
        if present != len(matrix):
            return False
        rows = PassageVectors.objects.filter(index=index, document=document, attachment=attachment)
        rows.delete()
        PassageVectors.objects.create(
            index=index,
            document_id=document,
            attachment_id=attachment,
            rows=len(matrix),
            data=matrix.astype(_STORED).tobytes(),
        )
    return True


def without_vectors(index: EmbeddingIndex) -> tuple[QuerySet[Document], QuerySet[Attachment]]:
    """Return the documents and attachments with passages but without vectors in ``index``."""
    documents = Document.objects.filter(state=DocumentState.READY).filter(
        Exists(Passage.objects.filter(document=OuterRef("pk"))),
        ~Exists(PassageVectors.objects.filter(document=OuterRef("pk"), index=index)),
    )
    attachments = Attachment.objects.filter(
        Exists(Passage.objects.filter(attachment=OuterRef("pk"))),
        ~Exists(PassageVectors.objects.filter(attachment=OuterRef("pk"), index=index)),
    )
    return documents, attachments


def find(
    question: NDArray[Any], index: EmbeddingIndex, ids: Ids, limit: int
) -> list[tuple[tuple[str, uuid.UUID, int], float]]:
    """Return the nearest passages as ``(kind, owner, number)`` with their cosines, best first.

    ``kind`` is "document" or "attachment", ``owner`` its ID. ``question`` has unit length.
    """
    asked = np.asarray(question, dtype=np.float32)
    best: list[tuple[tuple[str, uuid.UUID, int], float]] = []
    for block in _blocks(index, ids):
        data = b"".join(bytes(row[3]) for row in block)
        matrix = np.frombuffer(data, dtype=_STORED).reshape(-1, index.dimensions)
        scores = matrix.astype(np.float32) @ asked
        count = min(limit, len(scores))
        if not count:
            continue
        nearest = np.argpartition(scores, len(scores) - count)[-count:]
        ends = np.cumsum([row[2] for row in block])
        for at in nearest:
            place = int(np.searchsorted(ends, at, side="right"))
            document, attachment, rows, _data = block[place]
            number = int(at) - int(ends[place] - rows)
            key = ("document", document, number) if document else ("attachment", attachment, number)
            best.append((key, float(scores[at])))
        best.sort(key=lambda one: -one[1])
        del best[limit:]
    return best


def _blocks(index: EmbeddingIndex, ids: Ids) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows of document, attachment, number of rows, data."""
    wanted = Q(pk__in=[])
    if ids.collections:
        wanted |= Q(document__collection__in=ids.collections)
    if ids.documents:
        wanted |= Q(document__in=ids.documents)
    if ids.attachments:
        wanted |= Q(attachment__in=ids.attachments)
    rows = PassageVectors.objects.filter(wanted, index=index).values_list(
        "document", "attachment", "rows", "data"
    )
    block: list[tuple[Any, ...]] = []
    for row in rows.iterator(_BLOCK):
        block.append(row)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block
