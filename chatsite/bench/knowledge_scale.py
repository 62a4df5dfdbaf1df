"""Speed and memory of a search over many documents, on the configured database.

The documents are made up: words of a Zipf distribution, English and Chinese, and vectors in
clusters as of subjects. The question's vector is given, so no inference host takes part.
"""

from __future__ import annotations

import bisect
import itertools
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psutil
from django.db import connection, transaction

from chatsite.accounts.models import User
from chatsite.bench import users
from chatsite.documents.chunks import Chunk
from chatsite.knowledge import index
from chatsite.knowledge.index import vectors, words
from chatsite.knowledge.models import Collection, Document, DocumentState, EmbeddingIndex
from chatsite.knowledge.retrieve import Scope, resolve, search

if TYPE_CHECKING:
    from numpy.typing import NDArray

PASSAGES: Final = 10
_DIMENSIONS: Final = 384
_SUBJECTS: Final = 200
_COLLECTIONS: Final = 10
_VOCABULARY: Final = 40_000
_WORDS: Final = 110
_CHINESE: Final = (
    "数据库查询服务器网络安全模型回答会议计划报告时间地点合同审批差旅费用标准部门员工培训"
)
_QUESTIONS: Final = 60
_ROUNDS: Final = 10
_BATCH: Final = 100


class NotEmpty(Exception):
    """The database has collections of users."""


class _Text:
    """Words as frequent as in natural texts, and those of a subject more often in its documents."""

    def __init__(self, chooser: random.Random) -> None:
        letters = "etaoinshrdlucmfwypvbgk"
        made: dict[str, None] = {}
        while len(made) < _VOCABULARY:
            made["".join(chooser.choices(letters, k=chooser.randint(3, 10)))] = None
        self._words = list(made)
        self._sums = list(itertools.accumulate(1 / rank for rank in range(1, _VOCABULARY + 1)))
        self._chooser = chooser

    def word(self) -> str:
        at = bisect.bisect(self._sums, self._chooser.random() * self._sums[-1])
        return self._words[min(at, _VOCABULARY - 1)]

    def passage(self, subject: int) -> str:
        if subject % 5 == 0:
            return "".join(self._chooser.choices(_CHINESE, k=3 * _WORDS))
        words = [self.word() for _ in range(_WORDS)]
        own = 1_000 + 100 * subject
        words[::12] = [self._words[own + self._chooser.randrange(100)] for _ in words[::12]]
        return " ".join(words)

    def question(self, passage: str) -> str:
        if " " not in passage:
            at = self._chooser.randrange(len(passage) - 12)
            return passage[at : at + 12]
        words = passage.split()
        return " ".join(["how", "do", "I", *self._chooser.sample(words, 6)])


def measure(documents: int, say: Callable[[str], object]) -> dict[str, Any]:
    """Return times of searches in ms, and resident memory of this process after each round.

    Makes documents with `PASSAGES` passages each, and deletes them at the end. Raises `NotEmpty`.
    """
    if Collection.objects.exists() or EmbeddingIndex.objects.exists():
        raise NotEmpty
    chooser = random.Random(7)
    text = _Text(chooser)
    generator = np.random.default_rng(7)
    subjects = _unit(generator.standard_normal((_SUBJECTS, _DIMENSIONS)))
    user = users.create()
    into = EmbeddingIndex.objects.create(
        digest="bench", model="bench", dimensions=_DIMENSIONS, state=EmbeddingIndex.State.ACTIVE
    )
    try:
        began = time.monotonic()
        asked = list(_fill(user, into, documents, text, subjects, generator, say))
        filled = time.monotonic() - began
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        every = tuple(Collection.objects.readable_by(user).values_list("pk", flat=True))
        return {
            "database": connection.vendor,
            "documents": documents,
            "passages": documents * PASSAGES,
            "filled_passages_per_s": round(documents * PASSAGES / filled),
            "all_collections": _searches(user, into, every, asked, say),
            "one_collection": _searches(user, into, every[:1], asked, say),
        }
    finally:
        users.remove([user])
        into.delete()


def _unit(matrix: NDArray[Any]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(
        np.float32
    )
    return found


def _fill(
    user: User,
    into: EmbeddingIndex,
    documents: int,
    text: _Text,
    subjects: NDArray[np.float32],
    generator: np.random.Generator,
    say: Callable[[str], object],
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Store the documents and yield questions with their vectors."""
    collections = [
        Collection.objects.create(name=f"bench {at}", owner=user) for at in range(_COLLECTIONS)
    ]
    each = max(1, documents // _QUESTIONS)
    for begin in range(0, documents, _BATCH):
        with transaction.atomic():
            for at in range(begin, min(begin + _BATCH, documents)):
                subject = at % _SUBJECTS
                passages = [text.passage(subject) for _ in range(PASSAGES)]
                matrix = _unit(
                    subjects[subject] + 0.05 * generator.standard_normal((PASSAGES, _DIMENSIONS))
                )
                made = Document.objects.create(
                    collection=collections[at % _COLLECTIONS],
                    path=f"folder {at // 100}/document {at}.md",
                    size=1,
                    sha256="0" * 64,
                    state=DocumentState.READY,
                    characters=sum(map(len, passages)),
                )
                index.put(made, [Chunk("", one, 0, len(one), None, None) for one in passages])
                index.put_vectors(into, matrix, document=made.pk)
                if at % each == 0:
                    near = matrix[:1] + 0.03 * generator.standard_normal((1, _DIMENSIONS))
                    yield text.question(passages[0]), _unit(near)[0]
        if begin % 1_000 == 0:
            say(f"{begin} of {documents} documents")


def _searches(
    user: User,
    into: EmbeddingIndex,
    collections: tuple[Any, ...],
    asked: list[tuple[str, NDArray[np.float32]]],
    say: Callable[[str], object],
) -> dict[str, Any]:
    parts: dict[str, list[float]] = {"words": [], "vectors": [], "search": []}
    scope = Scope(collections)
    resident = []
    began = time.monotonic()
    ids, _searched = resolve(user, scope)
    search(user, scope, ids, *asked[0], into)
    first = time.monotonic() - began
    for round_ in range(_ROUNDS):
        for question, vector in asked:
            began = time.monotonic()
            words.find(question, ids, 50)
            middle = time.monotonic()
            vectors.find(vector, into, ids, 50)
            parts["vectors"].append(time.monotonic() - middle)
            parts["words"].append(middle - began)
            began = time.monotonic()
            ids, _searched = resolve(user, scope)
            search(user, scope, ids, question, vector, into)
            parts["search"].append(time.monotonic() - began)
        resident.append(round(psutil.Process().memory_info().rss / 2**20, 1))
        say(f"round {round_ + 1}: {resident[-1]} MiB resident")
    return {
        "first_ms": round(1e3 * first, 1),
        **{f"{name}_p50_ms": _percentile(times, 50) for name, times in parts.items()},
        **{f"{name}_p95_ms": _percentile(times, 95) for name, times in parts.items()},
        "resident_mib": resident,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1),
    }


def _percentile(times: list[float], percent: int) -> float:
    return round(1e3 * statistics.quantiles(times, n=100)[percent - 1], 1)
