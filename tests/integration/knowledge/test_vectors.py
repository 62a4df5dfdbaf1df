"""Vectors of many passages: their codes choose, the vectors decide, and every change is seen."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from django.apps import apps

from chatsite.accounts.models import User
from chatsite.documents.chunks import Chunk
from chatsite.knowledge import index, upload
from chatsite.knowledge.index import vectors
from chatsite.knowledge.index.words import Ids
from chatsite.knowledge.models import (
    Collection,
    Document,
    DocumentState,
    EmbeddingIndex,
    PassageVectors,
    VectorCodes,
)

pytestmark = [pytest.mark.django_db, pytest.mark.database]

SUBJECTS = 12
# Not a multiple of 64, as of few models: codes are filled up.
DIMENSIONS = 100


def unit(matrix: Any) -> Any:
    return matrix / np.linalg.norm(matrix, axis=-1, keepdims=True)


class Shelf:
    """Documents about subjects, whose vectors are near those of their subject."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)
        self.subjects = unit(self.generator.standard_normal((SUBJECTS, DIMENSIONS)))
        self.index = EmbeddingIndex.objects.create(
            model="m", digest="d", dimensions=DIMENSIONS, state=EmbeddingIndex.State.ACTIVE
        )
        self.owner = User.objects.create_user("ann")
        self.collections = [
            Collection.objects.create(owner=self.owner, name=str(n)) for n in (0, 1)
        ]
        self.made = 0

    def add(self, subject: int, collection: int = 0, passages: int = 4) -> Document:
        self.made += 1
        document = Document.objects.create(
            collection=self.collections[collection],
            path=f"{self.made}.md",
            size=1,
            sha256="0" * 64,
            state=DocumentState.READY,
        )
        self.fill(document, subject, passages)
        return document

    def fill(self, document: Document, subject: int, passages: int = 4) -> None:
        index.put(document, [Chunk("", str(n), n, n + 1, None, None) for n in range(passages)])
        noise = 0.05 * self.generator.standard_normal((passages, DIMENSIONS))
        near = unit(self.subjects[subject] + noise)
        assert index.put_vectors(self.index, near, document=document.pk)

    def find(self, subject: int, *collections: int, limit: int = 10) -> list[Any]:
        wanted = collections or (0, 1)
        ids = Ids(collections=tuple(self.collections[n].pk for n in wanted))
        return vectors.find(self.subjects[subject], self.index, ids, limit)

    def documents(self, subject: int, *collections: int) -> set[Any]:
        found = self.find(subject, *collections, limit=50)
        return {owner for (_kind, owner, _number), _cosine in found}


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(vectors, "tables", vectors.Tables())
    return Shelf()


def test_codes_find_what_an_exact_search_finds(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(60):
        shelf.add(at % SUBJECTS, at % 2, passages=1 + at % 5)
    monkeypatch.setattr(vectors, "NEAR", 40)
    by_codes = [shelf.find(subject) for subject in range(SUBJECTS)]
    ids = Ids(documents=tuple(Document.objects.values_list("pk", flat=True)))
    exact = [
        vectors.find(shelf.subjects[subject], shelf.index, ids, 10) for subject in range(SUBJECTS)
    ]
    for found, wanted in zip(by_codes, exact, strict=True):
        assert [key for key, _cosine in found] == [key for key, _cosine in wanted]
        assert [cosine for _key, cosine in found] == pytest.approx(
            [cosine for _key, cosine in wanted]
        )


def test_each_change_is_seen_by_the_next_search(shelf: Shelf) -> None:
    first, other = shelf.add(1), shelf.add(2)
    assert shelf.documents(1) == {first.pk, other.pk}
    second = shelf.add(1)
    third = shelf.add(1, collection=1)
    assert shelf.documents(1) == {first.pk, other.pk, second.pk, third.pk}
    upload.remove(shelf.owner, first.pk)
    assert shelf.documents(1) == {other.pk, second.pk, third.pk}
    shelf.fill(second, 3, passages=2)
    best, cosine = shelf.find(3, 0)[0]
    assert (best[1], cosine > 0.8) == (second.pk, True)
    index.put(third, [])
    assert shelf.documents(1, 1) == set()


def test_a_search_is_limited_to_its_scope(shelf: Shelf) -> None:
    inside, outside = shelf.add(1, collection=0), shelf.add(1, collection=1)
    assert shelf.documents(1, 0) == {inside.pk}
    assert shelf.documents(1, 1) == {outside.pk}
    both = Ids(collections=(shelf.collections[0].pk,), documents=(outside.pk,))
    found = vectors.find(shelf.subjects[1], shelf.index, both, 10)
    assert {owner for (_kind, owner, _number), _cosine in found} == {inside.pk, outside.pk}


def test_little_is_kept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "KEPT_BYTES", 200)
    documents = {shelf.add(1, collection=at).pk for at in (0, 1)}
    for _ in range(3):
        assert shelf.documents(1) == documents
        assert sum(table.size for table in vectors.tables.kept.values()) <= 200


def test_vectors_of_an_earlier_version_get_codes(shelf: Shelf) -> None:
    document = shelf.add(1)
    codes = bytes(VectorCodes.objects.get().data)
    VectorCodes.objects.all().delete()
    missing, _attachments = index.without_vectors(shelf.index)
    assert list(missing) == [document]  # what an old process writes during an upgrade
    import_module("chatsite.knowledge.migrations.0005_vector_codes").fill(apps, None)
    assert bytes(VectorCodes.objects.get().data) == codes
    assert not index.without_vectors(shelf.index)[0].exists()
    assert PassageVectors.objects.count() == 1
