"""Passages by their vectors: codes of one bit per number first, then the vectors of the nearest.

The codes of 300,000 passages with 384 bits are 14 MB, and comparing them takes a few milliseconds.
A process keeps those of the collections that were searched last; each search checks by the
collection's ``vectors_version`` that they are current. Single documents and attachments are
compared exactly at once.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from chatsite.conversations.attachments.models import Attachment
from chatsite.knowledge.index.words import Ids
from chatsite.knowledge.models import (
    Collection,
    Document,
    DocumentState,
    EmbeddingIndex,
    Passage,
    PassageVectors,
    VectorCodes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STORED: Final = np.dtype("<f2")
# Rows that are fetched and compared at a time: the memory that a search takes.
_BLOCK: Final = 200
# Passages whose codes are nearest: the exact comparison chooses among them.
NEAR: Final = 150
# Codes that a process keeps.
KEPT_BYTES: Final = 64 << 20
_WORD_BYTES: Final = 8

# A passage by its owner and number, and its cosine to the question.
Near = tuple[tuple[str, uuid.UUID, int], float]


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
        made = PassageVectors.objects.create(
            index=index,
            document_id=document,
            attachment_id=attachment,
            rows=len(matrix),
            data=matrix.astype(_STORED).tobytes(),
        )
        VectorCodes.objects.create(vectors=made, data=_codes(matrix))
        if document is not None:
            changed(document)
    return True


def changed(document: uuid.UUID) -> None:
    """Record that the vectors of a document's collection have changed.

    Last in a transaction: it makes others that change the same collection wait for its end.
    """
    owning = Document.objects.filter(pk=document).values("collection")
    Collection.objects.filter(pk__in=owning).update(vectors_version=F("vectors_version") + 1)


def without_vectors(index: EmbeddingIndex) -> tuple[QuerySet[Document], QuerySet[Attachment]]:
    """Return the documents and attachments with passages but without vectors in ``index``."""
    documents = Document.objects.filter(state=DocumentState.READY).filter(
        Exists(Passage.objects.filter(document=OuterRef("pk"))),
        ~Exists(VectorCodes.objects.filter(vectors__document=OuterRef("pk"), vectors__index=index)),
    )
    attachments = Attachment.objects.filter(
        Exists(Passage.objects.filter(attachment=OuterRef("pk"))),
        ~Exists(
            VectorCodes.objects.filter(vectors__attachment=OuterRef("pk"), vectors__index=index)
        ),
    )
    return documents, attachments


def find(question: NDArray[Any], index: EmbeddingIndex, ids: Ids, limit: int) -> list[Near]:
    """Return the nearest passages as ``(kind, owner, number)`` with their cosines, best first.

    ``kind`` is "document" or "attachment", ``owner`` its ID. ``question`` has unit length.
    """
    asked = np.asarray(question, dtype=np.float32)
    others = Ids(documents=ids.documents, attachments=ids.attachments)
    found = {} if others.empty else dict(_exact(asked, index, others, limit))
    found.update(_by_codes(asked, index, ids.collections))
    return sorted(found.items(), key=lambda one: -one[1])[:limit]


def _exact(asked: NDArray[np.float32], index: EmbeddingIndex, ids: Ids, limit: int) -> list[Near]:
    best: list[Near] = []
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


@dataclass(frozen=True)
class _Table:
    """The codes of a collection: ``vectors`` and ``ends`` have an entry for each document.

    ``codes`` has a column for each passage: rows of 64-bit words are compared at once.
    """

    version: int
    vectors: NDArray[np.int64]
    ends: NDArray[np.int64]
    codes: NDArray[np.uint64]

    @property
    def size(self) -> int:
        return self.codes.nbytes + self.vectors.nbytes + self.ends.nbytes

    def near(self, code: NDArray[np.uint64], count: int) -> Iterator[tuple[int, int, int]]:
        """Yield distance, key of the document's vectors and number of the nearest passages."""
        if not self.codes.size:
            return
        distances = np.zeros(self.codes.shape[1], dtype=np.uint16)
        for row, word in zip(self.codes, code, strict=True):
            distances += np.bitwise_count(row ^ word)
        count = min(count, len(distances))
        for at in np.argpartition(distances, count - 1)[:count]:
            place = int(np.searchsorted(self.ends, at, side="right"))
            begin = int(self.ends[place - 1]) if place else 0
            yield int(distances[at]), int(self.vectors[place]), int(at) - begin


class Tables:
    """The tables that were used last, at most `KEPT_BYTES` of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kept: OrderedDict[tuple[int, uuid.UUID], _Table] = OrderedDict()

    def get(self, index: EmbeddingIndex, collection: uuid.UUID, version: int) -> _Table:
        """Return the codes of a collection; reads only those that were added since."""
        key = (index.pk, collection)
        with self._lock:
            known = self.kept.get(key)
        if known is None or known.version != version:
            known = self._read(index, collection, version, known)
        with self._lock:
            self.kept[key] = known
            self.kept.move_to_end(key)
            total = sum(table.size for table in self.kept.values())
            while total > KEPT_BYTES and self.kept:
                total -= self.kept.popitem(last=False)[1].size
        return known

    @staticmethod
    def _read(
        index: EmbeddingIndex, collection: uuid.UUID, version: int, known: _Table | None
    ) -> _Table:
        rows = (
            VectorCodes.objects.filter(
                vectors__index=index, vectors__document__collection=collection
            )
            .order_by("pk")
            .values_list("pk", "vectors__rows", "data")
        )
        if known is not None and len(known.vectors):
            added = list(rows.filter(pk__gt=int(known.vectors[-1])))
            if len(known.vectors) + len(added) == rows.count():
                return _joined(known, _table(version, index, added))
        return _table(version, index, rows.iterator(_BLOCK))


tables = Tables()


def _table(version: int, index: EmbeddingIndex, rows: Iterable[tuple[int, int, Any]]) -> _Table:
    keys, counts, parts = [], [], []
    for key, count, data in rows:
        keys.append(key)
        counts.append(count)
        parts.append(bytes(data))
    width = _width(index.dimensions)
    codes = np.frombuffer(b"".join(parts), dtype=np.uint64).reshape(-1, width).T.copy()
    ends = np.cumsum(counts, dtype=np.int64) if counts else np.zeros(0, np.int64)
    return _Table(version, np.array(keys, dtype=np.int64), ends, codes)


def _joined(first: _Table, second: _Table) -> _Table:
    if not len(second.vectors):
        return _Table(second.version, first.vectors, first.ends, first.codes)
    return _Table(
        second.version,
        np.concatenate([first.vectors, second.vectors]),
        np.concatenate([first.ends, second.ends + first.ends[-1]]),
        np.concatenate([first.codes, second.codes], axis=1),
    )


def _width(dimensions: int) -> int:
    """Return the number of 64-bit words of a code."""
    return -(-dimensions // (8 * _WORD_BYTES))


def _codes(matrix: NDArray[Any]) -> bytes:
    """Return the signs of the numbers of each row, filled up to whole 64-bit words."""
    bits = np.packbits(matrix > 0, axis=1)
    missing = _WORD_BYTES * _width(matrix.shape[1]) - bits.shape[1]
    return np.pad(bits, ((0, 0), (0, missing))).tobytes()


def _by_codes(
    asked: NDArray[np.float32], index: EmbeddingIndex, collections: Sequence[uuid.UUID]
) -> Iterator[Near]:
    """Yield the passages whose codes are nearest, with their cosines."""
    code = np.frombuffer(_codes(asked[None]), dtype=np.uint64)
    rows_of = Collection.objects.filter(pk__in=collections)
    versions = rows_of.values_list("pk", "vectors_version") if collections else ()
    near = [
        one
        for collection, version in versions
        for one in tables.get(index, collection, version).near(code, NEAR)
    ]
    numbers: dict[int, list[int]] = {}
    for _distance, vectors, number in sorted(near)[:NEAR]:
        numbers.setdefault(vectors, []).append(number)
    rows = PassageVectors.objects.filter(pk__in=numbers).values_list("pk", "document", "data")
    for key, document, data in rows:
        matrix = np.frombuffer(bytes(data), dtype=_STORED).reshape(-1, index.dimensions)
        wanted = numbers[key]
        for number, cosine in zip(wanted, matrix[wanted].astype(np.float32) @ asked, strict=True):
            yield ("document", document, number), float(cosine)


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
