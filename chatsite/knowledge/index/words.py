"""Passages by their words, ranked by BM25 alike on both databases.

The index yields the passages that have each of the rarest wanted terms. Those with most of the
weight are candidates, whose texts are then ranked in Python: FTS5 has a BM25 but PostgreSQL has
none, and a term's count in each passage would make the index several times as large.
"""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from django.db import connection, models

from chatsite.knowledge.index import terms
from chatsite.knowledge.models import Passage
from chatsite.text_terms import sequence

if TYPE_CHECKING:
    from numpy.typing import NDArray

_K1: Final = 1.2
_B: Final = 0.75
# Characters that a question's terms are taken from: a pasted text has more than a search needs.
_QUESTION_CHARS: Final = 4000
_TERMS_MAX: Final = 32
# Matches that are read at most, how many of them are looked up before all that is in scope is read,
# and those that are ranked by their texts.
_MATCHES_MAX: Final = 10_000
_LOOKED_UP: Final = (200, 1_000)
_CANDIDATES: Final = 100
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
# The same in Chinese, taken out before the text is divided into pairs of characters.
_ASKING: Final = re.compile(
    "为什么|什么样|什么|怎么样|怎么办|怎样|怎么|如何|哪一个|哪些|哪个|哪里|哪儿|多少|能不能|可不可以|"
    "有没有|是不是|是否|能否|可以|能够|需要|应该|应当|请问|请|吗|呢|吧|的(?!确)|了|把|被"
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
    question = question[:_QUESTION_CHARS]
    every = sequence(_ASKING.sub(" ", question)) or sequence(question)
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
    candidates = _in_scope(_heaviest(chosen, weights), ids)
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


def _heaviest(chosen: Sequence[str], weights: dict[str, float]) -> NDArray[np.int64]:
    """Return the passages with some of the terms, those with the largest sum of weights first."""
    found: list[NDArray[np.int64]] = []
    sums: list[NDArray[np.float64]] = []
    with connection.cursor() as cursor:
        for term in chosen:
            if connection.vendor == "postgresql":
                cursor.execute(_POSTGRESQL, [f"'{term}'", _MATCHES_MAX])
            else:
                cursor.execute(_SQLITE, [f'"{term}"', _MATCHES_MAX])
            matches = np.fromiter((row[0] for row in cursor.fetchall()), dtype=np.int64)
            found.append(matches)
            sums.append(np.full(len(matches), weights[term]))
    passages, places = np.unique(np.concatenate(found), return_inverse=True)
    total = np.bincount(places, weights=np.concatenate(sums), minlength=len(passages))
    heaviest: NDArray[np.int64] = passages[np.argsort(-total, kind="stable")]
    return heaviest


def _in_scope(passages: NDArray[np.int64], ids: Ids) -> list[int]:
    """Return the first of ``passages`` that are in scope, in their order, as candidates."""
    allowed: set[int] = set()
    seen = 0
    for most in _LOOKED_UP:
        if len(allowed) < _CANDIDATES and seen < len(passages):
            allowed |= _allowed_of(passages[seen:most], ids)
            seen = most
    if len(allowed) < _CANDIDATES and seen < len(passages):
        allowed = _allowed(ids)
    return [one for one in passages.tolist() if one in allowed][:_CANDIDATES]


def _allowed_of(passages: NDArray[np.int64], ids: Ids) -> set[int]:
    """Return those of ``passages`` that are in scope."""
    where, values = _scope(ids, _OF_COLLECTIONS_EACH)
    return _selected(f"id IN ({_marks(len(passages))}) AND {where}", [*passages.tolist(), *values])


def _allowed(ids: Ids) -> set[int]:
    """Return all passages in scope."""
    return _selected(*_scope(ids, _OF_COLLECTIONS_ALL))


def _selected(where: str, values: list[Any]) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM knowledge_passage AS passage WHERE {where}", values)  # noqa: S608
        return {row[0] for row in cursor.fetchall()}


def _scope(ids: Ids, of_collections: str) -> tuple[str, list[Any]]:
    """Return the condition on passages, and its values."""
    parts, values = [], []
    field = Passage._meta.get_field("document").target_field
    for condition, wanted in (
        (of_collections, ids.collections),
        ("document_id IN ({})", ids.documents),
        ("attachment_id IN ({})", ids.attachments),
    ):
        if wanted:
            parts.append(condition.format(_marks(len(wanted))))
            values += [field.get_db_prep_value(one, connection) for one in wanted]
    return f"({' OR '.join(parts)})", values


def _marks(count: int) -> str:
    return ", ".join(["%s"] * count)


_POSTGRESQL: Final = """
    SELECT passage_id FROM knowledge_passageterms WHERE terms @@ %s::tsquery LIMIT %s
"""
_SQLITE: Final = "SELECT rowid FROM knowledge_words WHERE knowledge_words MATCH %s LIMIT %s"
# Two ways to say the same: for given passages each one's document is looked up; for all passages,
# those of each document in the collections.
_OF_COLLECTIONS_EACH: Final = (
    "EXISTS (SELECT 1 FROM knowledge_document AS document "
    "WHERE document.id = passage.document_id AND collection_id IN ({}))"
)
_OF_COLLECTIONS_ALL: Final = (
    "document_id IN (SELECT id FROM knowledge_document WHERE collection_id IN ({}))"
)
