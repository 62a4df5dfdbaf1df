"""The models that compute vectors and relevance for knowledge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from chatsite.site_settings import current as site
from chatsite.text_terms import mostly_unspaced
from models_admin import catalogue, facts
from models_admin.models import ModelName

# What models want before a question and before a passage, by parts of their names. Source: their
# model cards.
_PREFIXES = (
    ("nomic-embed", "search_query: ", "search_document: "),
    ("e5-", "query: ", "passage: "),
    ("mxbai-embed", "Represent this sentence for searching relevant passages: ", ""),
    ("bge-m3", "", ""),
    ("bge-", "Represent this sentence for searching relevant passages: ", ""),
    ("arctic-embed", "Represent this sentence for searching relevant passages: ", ""),
    ("embeddinggemma", "task: search result | query: ", "title: none | text: "),
    (
        "qwen3-embedding",
        "Instruct: Given a question, retrieve passages that answer it\nQuery: ",
        "",
    ),
)
# Models of English texts alone, by their names. Source: their model cards.
_ENGLISH = re.compile(
    r"all-minilm|nomic-embed-text(?!-v2)|mxbai-embed|arctic-embed(?!2|.*v2)|"
    r"bge-(?:large|base|small)(?!.*zh)"
)


@dataclass(frozen=True)
class EmbeddingModel:
    """A model by its name in the catalogue and the digest of its file."""

    name: str
    digest: str

    def query(self, text: str) -> str:
        """Return a question as the model wants it."""
        return f"{self._prefixes()[0]}{text}"

    def passage(self, text: str) -> str:
        return f"{self._prefixes()[1]}{text}"

    def knows(self, text: str) -> bool:
        """Return whether the model was taught the script that most of ``text`` is written in.

        The vectors of other texts say nothing, and would displace what their words find.
        """
        return _ENGLISH.search(self.name.lower()) is None or not mostly_unspaced(text)

    def _prefixes(self) -> tuple[str, str]:
        name = self.name.lower()
        for part, query, passage in _PREFIXES:
            if part in name:
                return query, passage
        return "", ""


def current() -> EmbeddingModel | None:
    """Return the administrator's choice, or the first embedding model that was installed."""
    wanted = site().knowledge_embedding_model
    if wanted:
        found = catalogue.installed(wanted)
        return _usable(found) if found else None
    return next(_installed(), None)


@dataclass(frozen=True)
class Reranker:
    """A reranker by its name in the catalogue and the digest of its file."""

    name: str
    digest: str


def reranker() -> Reranker | None:
    """Return the administrator's choice, or the only reranker that is installed."""
    wanted = site().knowledge_reranker.lower()
    found = [one for one in catalogue.able("rerank") if wanted in {"", one.name.lower()}]
    return Reranker(found[0].name, found[0].version.digest) if len(found) == 1 else None


def by_digest(digest: str) -> EmbeddingModel | None:
    """Return the installed embedding model with that file."""
    return next((one for one in _installed() if one.digest == digest), None)


def names() -> list[str]:
    """Return the names of the installed embedding models."""
    return [one.name for one in _installed()]


def _installed() -> Iterator[EmbeddingModel]:
    rows = ModelName.objects.filter(enabled=True, version__quarantined="").served()
    for row in rows.select_related("version").order_by("created_at", "pk"):
        if found := _usable(row):
            yield found


def _usable(model: ModelName) -> EmbeddingModel | None:
    if not model.enabled or facts.nature(model.version).abilities != ("embedding",):
        return None
    return EmbeddingModel(model.name, model.version.digest)
