"""Reciprocal rank fusion."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

# How little the first ranks count more than later ones. The method's authors have 60, for rankings
# that are equally good; `bench --knowledge` finds more with a small one.
_K: Final = 10

T = TypeVar("T", bound=Hashable)


def fuse(rankings: Sequence[Sequence[T]], weights: Sequence[float] | None = None) -> list[T]:
    """Return all items of ``rankings``, those first whose ranks are high in several of them.

    An item's score is the sum of weight / (10 + rank). Source: Cormack, Clarke and Büttcher,
    "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", 2009.
    """
    scores: dict[T, float] = {}
    for at, ranking in enumerate(rankings):
        weight = weights[at] if weights else 1.0
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + weight / (_K + rank)
    return sorted(scores, key=lambda item: -scores[item])
