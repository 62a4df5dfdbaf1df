"""Quality of retrieval: questions about public documentation whose answering page is known.

The corpora are documentation packages of Debian, fetched with `apt-get download`; the questions,
in English and Chinese, are beside this module. A ranking of passages gets the hit rate at 5 (a
passage of the answering page is among the first five) and the mean reciprocal rank of that page.

Besides the product's own search, its parts and two pipelines are measured: plain BM25 and vectors
alone over pieces of a fixed size, which is the default of a well-known peer.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from asgiref.sync import async_to_sync

from chatsite.accounts.models import User
from chatsite.answers.embedding import embed_from_thread
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.bench import users
from chatsite.knowledge import embedding_model, index, upload
from chatsite.knowledge.embedding_model import EmbeddingModel
from chatsite.knowledge.fusion import fuse
from chatsite.knowledge.index import vectors, words
from chatsite.knowledge.index.words import Ids
from chatsite.knowledge.models import (
    Collection,
    Document,
    DocumentState,
    DocumentText,
    EmbeddingIndex,
    Passage,
)
from chatsite.knowledge.retrieve import Result, Scope, retrieve

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PACKAGES: Final = ("debian-handbook", "debian-reference-zh-cn", "python3.11-doc")
_DOC: Final = "usr/share/doc"
# By language: folder in the collection, folder of the package, pattern.
_CORPORA: Final = {
    "en": (
        ("debian-handbook", "debian-handbook/html/en-US", "sect.*.html"),
        ("python3.11/howto", "python3.11/html/howto", "*.html"),
        ("python3.11/faq", "python3.11/html/faq", "*.html"),
        ("python3.11/tutorial", "python3.11/html/tutorial", "*.html"),
        # Pages of modules whose names begin with these letters, the answering ones among them.
        ("python3.11/library", "python3.11/html/library", "[cfghstz]*.html"),
    ),
    "zh": (
        ("debian-handbook-zh", "debian-handbook/html/zh-CN", "sect.*.html"),
        ("debian-reference", "debian-reference-zh-cn/docs", "ch*.html"),
    ),
}
# Longer pages are mostly tables of an API; they would take most of the time.
_PAGE_BYTES: Final = 500_000
_ENDED: Final = (DocumentState.READY, DocumentState.FAILED)
_DEPTH: Final = 50
_FIRST: Final = 5
_READ_SECONDS: Final = 3_600
# The peer's defaults: characters of a piece, and of its overlap with the piece before.
_PIECE: Final = 1_000
_OVERLAP: Final = 100
_BATCH: Final = 32
# A word, or one character of a script without spaces: the usual terms of a plain BM25.
_TERM: Final = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_K1: Final = 1.5
_B: Final = 0.75


class NoModel(Exception):
    """No embedding model is installed."""


@dataclass(frozen=True)
class _Question:
    text: str
    page: str


@dataclass
class _Corpus:
    """The pages of one language, in a collection of the product and as pieces of a fixed size."""

    ids: Ids
    paths: dict[Any, str]
    pieces: list[tuple[str, str]]
    matrix: NDArray[np.float32]


def measure(folder: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """Return hit rate and mean reciprocal rank by language and pipeline.

    Fetches the packages into ``folder`` unless they are there. The site must run. Raises `NoModel`,
    `CalledProcessError` if a package can't be fetched, `RuntimeError` if a page can't be read, and
    as `embedding.embed`.
    """
    model = embedding_model.current()
    if model is None:
        raise NoModel
    _fetch(folder)
    everything = json.loads(Path(__file__).with_name("knowledge_questions.json").read_text())
    user = users.create()
    figures: dict[str, Any] = {"embedding_model": model.name, "depth": _DEPTH}
    try:
        for language, sources in _CORPORA.items():
            questions = [_Question(one["question"], one["page"]) for one in everything[language]]
            with _collection(user, language) as collection:
                corpus = _fill(user, collection, folder, sources, model, say)
                figures[language] = _rates(user, model, corpus, questions)
    finally:
        users.remove([user])
    return figures


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for package in _PACKAGES:
        if not any(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
            (file,) = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "-x", str(file), str(folder)], check=True)


@contextmanager
def _collection(user: User, language: str) -> Iterator[Collection]:
    made = Collection.objects.create(name=f"bench {language}", owner=user)
    try:
        yield made
    finally:
        made.delete()


def _fill(
    user: User,
    into: Collection,
    folder: Path,
    sources: Sequence[tuple[str, str, str]],
    model: EmbeddingModel,
    say: Callable[[str], object],
) -> _Corpus:
    began = time.monotonic()
    for name, below, pattern in sources:
        for file in sorted((folder / _DOC / below).glob(pattern)):
            data = file.read_bytes()
            if len(data) <= _PAGE_BYTES:
                upload.store(user, into, f"{name}/{file.name.replace('.zh-cn', '')}", data)
    documents = Document.objects.filter(collection=into)
    _wait(lambda: documents.exclude(state__in=_ENDED).count(), "documents to read", say)
    if failed := documents.filter(state=DocumentState.FAILED).first():
        raise RuntimeError(f"{failed.path} can't be read: {failed.error}")

    def lacking() -> int:
        found = EmbeddingIndex.objects.filter(digest=model.digest).first()
        if found is None:
            return documents.count()
        return index.without_vectors(found)[0].filter(collection=into).count()

    read_seconds = time.monotonic() - began
    _wait(lacking, "documents without vectors", say)
    paths = dict(documents.values_list("pk", "path"))
    rows = DocumentText.objects.filter(document__collection=into).order_by("document")
    pieces = [
        (paths[one.document_id], piece) for one in rows.iterator() for piece in _pieces(one.text)
    ]
    passages = Passage.objects.filter(document__collection=into).count()
    say(
        f"{into.name}: {len(paths)} pages, {passages} passages, {len(pieces)} pieces, "
        f"read in {read_seconds:.0f} s"
    )
    matrix = _vectors(model, [text for _path, text in pieces])
    return _Corpus(Ids(collections=(into.pk,)), paths, pieces, matrix)


def _wait(left: Callable[[], int], what: str, say: Callable[[str], object]) -> None:
    """Wait until nothing is left. Raises `TimeoutError` after an hour."""
    until = time.monotonic() + _READ_SECONDS
    told = 0.0
    while count := left():
        if time.monotonic() > until:
            raise TimeoutError(f"{count} {what}")
        if time.monotonic() > told + 30:
            told = time.monotonic()
            say(f"{count} {what}")
        time.sleep(1)


def _pieces(text: str) -> Iterator[str]:
    """Yield pieces of a fixed size that overlap, cut at white space where there is any."""
    at = 0
    while at < len(text):
        end = min(at + _PIECE, len(text))
        if end < len(text) and (space := text.rfind(" ", at + _PIECE // 2, end)) > 0:
            end = space
        yield text[at:end]
        if end == len(text):
            return
        at = end - _OVERLAP


def _vectors(model: EmbeddingModel, texts: Sequence[str]) -> NDArray[np.float32]:
    parts = [
        embed_from_thread(model.name, texts[at : at + _BATCH])
        for at in range(0, len(texts), _BATCH)
    ]
    return np.concatenate(parts)


def _rates(
    user: User, model: EmbeddingModel, corpus: _Corpus, questions: Sequence[_Question]
) -> dict[str, Any]:
    asked = _vectors(model, [model.query(one.text) for one in questions])
    plain = _Plain(corpus.pieces)
    into = EmbeddingIndex.objects.get(digest=model.digest)
    found: dict[str, list[list[str]]] = {}
    modes: Counter[str] = Counter()
    for question, vector in zip(questions, asked, strict=True):
        by_words = [hit.passage for hit in words.find(question.text, corpus.ids, _DEPTH)]
        nearest = [key for key, _cosine in vectors.find(vector, into, corpus.ids, _DEPTH)]
        places = _places([(owner, number) for _kind, owner, number in nearest])
        by_vectors = [places[owner, number] for _kind, owner, number in nearest]
        result = _ask(user, question.text, corpus.ids)
        modes[result.mode] += 1
        near = np.argsort(-(corpus.matrix @ vector), kind="stable")[:_DEPTH]
        rows = {
            "plain BM25": plain.find(question.text),
            "peer: vectors of pieces": [corpus.pieces[at][0] for at in near],
            "words": _pages(by_words, corpus),
            "vectors": _pages(by_vectors, corpus),
            "fused, equal weights": _pages(fuse([by_words, by_vectors]), corpus),
            "product": _pages([one.passage.pk for one in result.found], corpus),
        }
        for name, pages in rows.items():
            found.setdefault(name, []).append(pages)
    wanted = [one.page for one in questions]
    return {
        "questions": len(questions),
        "modes": dict(modes),
        **{name: rates(ranked, wanted) for name, ranked in found.items()},
    }


def rates(ranked: Sequence[Sequence[str]], wanted: Sequence[str]) -> dict[str, float]:
    """Return hit rate at 5 and mean reciprocal rank of each ``wanted`` page in its ranking."""
    ranks = [
        pages.index(page) + 1 if page in pages else math.inf
        for pages, page in zip(ranked, wanted, strict=True)
    ]
    return {
        "hit_at_5": round(sum(rank <= _FIRST for rank in ranks) / len(ranks), 3),
        "mrr": round(sum(1 / rank for rank in ranks) / len(ranks), 3),
    }


def _ask(user: User, question: str, ids: Ids) -> Result:
    async def ask() -> Result:
        try:
            return await retrieve(runtime(), user, question, Scope(ids.collections), limit=_DEPTH)
        finally:
            await close_runtime()

    return async_to_sync(ask)()


def _places(keys: Sequence[tuple[Any, int]]) -> dict[tuple[Any, int], int]:
    rows = Passage.objects.filter(document__in={owner for owner, _number in keys})
    return {
        (owner, number): pk for pk, owner, number in rows.values_list("pk", "document", "number")
    }


def _pages(passages: Sequence[int], corpus: _Corpus) -> list[str]:
    rows = Passage.objects.filter(pk__in=passages).values_list("pk", "document")
    owners = dict(rows)
    return [corpus.paths[owners[pk]] for pk in passages]


class _Plain:
    """BM25 over pieces, with nothing else."""

    def __init__(self, pieces: Sequence[tuple[str, str]]) -> None:
        self._pages = [path for path, _text in pieces]
        self._counts = [Counter(_TERM.findall(text.lower())) for _path, text in pieces]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._usual = sum(self._lengths) / len(self._lengths)
        self._frequencies = Counter(term for counts in self._counts for term in counts)

    def find(self, question: str) -> list[str]:
        wanted = set(_TERM.findall(question.lower()))
        total = len(self._pages)
        weights = {
            term: math.log(1 + (total - count + 0.5) / (count + 0.5))
            for term in wanted
            if (count := self._frequencies[term])
        }
        scores = [
            sum(
                weight
                * counts[term]
                * (_K1 + 1)
                / (counts[term] + _K1 * (1 - _B + _B * length / self._usual))
                for term, weight in weights.items()
                if counts[term]
            )
            for counts, length in zip(self._counts, self._lengths, strict=True)
        ]
        order = sorted(range(total), key=lambda at: -scores[at])[:_DEPTH]
        return [self._pages[at] for at in order if scores[at] > 0]
