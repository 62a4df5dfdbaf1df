"""Figures of all collections, for administrators. They name collections and documents, no text."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from chatsite.knowledge.models import Collection, Document, DocumentState

LISTED: Final = 20
_OPEN: Final = [DocumentState.QUEUED, DocumentState.READING]


@dataclass(frozen=True)
class Totals:
    """``bytes`` is that of the files, ``open`` documents are queued or being read."""

    collections: int
    documents: int
    bytes: int
    pages: int
    open: int
    failed: int


def totals() -> Totals:
    found = Document.objects.aggregate(
        documents=Count("pk"),
        bytes=Coalesce(Sum("size"), 0),
        pages=Coalesce(Sum("pages"), 0),
        open=Count("pk", filter=Q(state__in=_OPEN)),
        failed=Count("pk", filter=Q(state=DocumentState.FAILED)),
    )
    return Totals(collections=Collection.objects.count(), **found)


def failed() -> QuerySet[Document]:
    """Return the documents that could not be read, the latest first."""
    rows = Document.objects.filter(state=DocumentState.FAILED).select_related("collection")
    return rows.order_by("-updated_at", "pk")


def most_used() -> QuerySet[Document]:
    """Return the documents that answers used most."""
    rows = Document.objects.filter(uses__gt=0).select_related("collection")
    return rows.order_by("-uses", "pk")


def collections() -> QuerySet[Collection]:
    """Return all collections with their sizes, uses and numbers of shares, the largest first."""
    rows = Collection.objects.select_related("owner", "group").annotate(
        document_count=Count("documents", distinct=True),
        share_count=Count("shares", distinct=True),
    )
    return rows.order_by("-document_count", "name", "pk")


def sizes(ids: list[uuid.UUID]) -> dict[uuid.UUID, tuple[int, int]]:
    """Return the bytes of the files, and the uses by answers, of each collection."""
    rows = Document.objects.filter(collection__in=ids).values("collection").order_by()
    found = rows.annotate(bytes=Sum("size"), used=Sum("uses"))
    return {row["collection"]: (row["bytes"] or 0, row["used"] or 0) for row in found}
