"""Passages by their words, ranked by BM25 alike on both databases.

The index yields candidates: those with the rarest of the wanted terms, with most of them first.
Their texts are then ranked in Python: FTS5 has a BM25 but PostgreSQL has none, and a term's count
in each passage would make the index several times as large.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, models

from chatsite.knowledge.index import terms
from chatsite.knowledge.models import Passage
from chatsite.text_terms import sequence

_K1: Final = 1.2
_B: Final = 0.75
# Characters that a question's terms are taken from: a pasted text has more than a search needs.
_QUESTION_CHARS: Final = 4000
_TERMS_MAX: Final = 32
# Matches that are read at most, and those that are ranked by their texts.
_MATCHES_MAX: Final = 20_000
_CANDIDATES: Final = 150
# Fewer passages say little about how rare a word is: one that each of three has would count nothing
# beside a word that none has.
_TOTAL_MIN: Final = 1000
# Words of questions that say nothing about their subject. In a small collection they may be rare.
_STOP: Final = frozenset(
    """
    a about all also am an and any are as at be been but by can could did do does for from had has
    have how i if in into is it its may me much must my no not of on or our shall should so some
    tell than that the their them then there these they this those to was we were what when where
    which who whom whose why will with would you your
    """.split()  # noqa: SIM905  (a list of these words would take a page)
)


@dataclass(frozen=True)
class Ids:
    """What is searched: collections and attachments that the user may read."""

    collections: tuple[uuid.UUID, ...] = ()
    attachments: tuple[uuid.UUID, ...] = ()
    documents: tuple[uuid.UUID, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.collections or self.attachments or self.documents)


@dataclass(frozen=True)
class Hit:
    """``share`` is that of the question's weight whose terms the passage has."""

    passage: int
    score: float
    share: float


def find(question: str, ids: Ids, limit: int) -> list[Hit]:
    """Return the best passages for the words of ``question``, best first."""
    # Terms are letters and digits: they can't be operators of FTS5 or of a tsquery.
    every = sequence(question[:_QUESTION_CHARS])
    meant = [word for word in every if word not in _STOP] or every
    wanted = list(dict.fromkeys(terms.of(" ".join(meant))))
    if not wanted or ids.empty:
        return []
    total, known = frequencies(wanted)
    weights = {term: _weight(total, known.get(term, 0)) for term in wanted}
    rare = sorted((count, term) for term, count in known.items())[:_TERMS_MAX]
    chosen: list[str] = []
    matches = 0
    for count, term in rare:
        if chosen and matches + count > _MATCHES_MAX:
            break
        chosen.append(term)
        matches += count
    if not chosen:
        return []
    candidates = _candidates(chosen, weights, ids)
    return _ranked(candidates, weights)[:limit]


def _weight(total: int, having: int) -> float:
    """Return the inverse document frequency of a term."""
    return math.log(1 + (total - having + 0.5) / (having + 0.5))


def _ranked(candidates: Sequence[int], weights: dict[str, float]) -> list[Hit]:
    rows = Passage.objects.filter(pk__in=candidates).values_list(
        "pk", "document__path", "attachment__name", "heading", "text"
    )
    counted = [
        (pk, Counter(terms.of_passage(path or name, heading, text)))
        for pk, path, name, heading, text in rows
    ]
    if not counted:
        return []
    lengths = {pk: sum(counts.values()) for pk, counts in counted}
    usual = sum(lengths.values()) / len(lengths) or 1.0
    whole = sum(weights.values()) or 1.0
    hits = []
    for pk, counts in counted:
        scale = _K1 * (1 - _B + _B * lengths[pk] / usual)
        found = [(weights[term], counts[term]) for term in weights if counts[term]]
        score = sum(weight * count * (_K1 + 1) / (count + scale) for weight, count in found)
        hits.append(Hit(pk, score, sum(weight for weight, _count in found) / whole))
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage))


def frequencies(wanted: Sequence[str]) -> tuple[int, dict[str, int]]:
    """Return the number of passages, and of those with each known term."""
    marks = ", ".join(["%s"] * len(wanted))
    postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if postgresql:
            cursor.execute(
                f"SELECT term, passages FROM knowledge_term WHERE term IN ({marks})",  # noqa: S608
                wanted,
            )
        else:
            cursor.execute(
                f"SELECT term, doc FROM knowledge_vocabulary WHERE term IN ({marks})",  # noqa: S608
                wanted,
            )
        known = {term: count for term, count in cursor.fetchall() if count > 0}
    return max(_total(), *known.values(), _TOTAL_MIN), known


def _total() -> int:
    """Return about how many passages there are: a count would read all of them."""
    return Passage.objects.aggregate(last=models.Max("pk"))["last"] or 0


def _candidates(chosen: Sequence[str], weights: dict[str, float], ids: Ids) -> list[int]:
    where, values = _scope(ids)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            score = " + ".join(["(found.terms @@ %s::tsquery)::int * %s::float"] * len(chosen))
            each = [value for term in chosen for value in (f"'{term}'", weights[term])]
            query = " | ".join(f"'{term}'" for term in chosen)
            cursor.execute(
                _POSTGRESQL.format(score=score, scope=where),
                [query, *values, *each, _CANDIDATES],
            )
        else:
            query = " OR ".join(f'"{term}"' for term in chosen)
            cursor.execute(_SQLITE.format(scope=where), [query, *values, _CANDIDATES])
        return [row[0] for row in cursor.fetchall()]


def _scope(ids: Ids) -> tuple[str, list[Any]]:
    """Return the condition on passages and documents, and its values."""
    parts, values = [], []
    field = Passage._meta.get_field("document").target_field
    for column, wanted in (
        ("document.collection_id", ids.collections),
        ("passage.document_id", ids.documents),
        ("passage.attachment_id", ids.attachments),
    ):
        if wanted:
            parts.append(f"{column} IN ({', '.join(['%s'] * len(wanted))})")
            values += [field.get_db_prep_value(one, connection) for one in wanted]
    return f"({' OR '.join(parts)})", values


_POSTGRESQL: Final = """
    WITH found AS MATERIALIZED (
        SELECT terms.passage_id AS id, terms.terms FROM knowledge_passageterms AS terms
        JOIN knowledge_passage AS passage ON passage.id = terms.passage_id
        LEFT JOIN knowledge_document AS document ON document.id = passage.document_id
        WHERE terms.terms @@ %s::tsquery AND {scope}
    )
    SELECT id FROM found ORDER BY {score} DESC, id LIMIT %s
"""
_SQLITE: Final = """
    SELECT words.rowid FROM knowledge_words AS words
    JOIN knowledge_passage AS passage ON passage.id = words.rowid
    LEFT JOIN knowledge_document AS document ON document.id = passage.document_id
    WHERE knowledge_words MATCH %s AND {scope}
    ORDER BY bm25(knowledge_words), words.rowid LIMIT %s
"""
