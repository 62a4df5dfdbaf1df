"""Collections written directly to the database, as after an upload that was read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from chatsite.accounts.models import User
from chatsite.documents.chunks import Chunk
from chatsite.knowledge import index
from chatsite.knowledge.models import (
    Collection,
    Document,
    DocumentPiece,
    DocumentState,
    DocumentText,
)
from tests.support.documents import pdf


def write(person: str, pages: Sequence[str], *, name: str = "Manuals") -> str:
    """Write a collection of one PDF with these pages, a passage each; return its ID."""
    collection = Collection.objects.create(owner=User.objects.get(username=person), name=name)
    data = pdf(*pages)
    document = Document.objects.create(
        collection=collection,
        path="plant/manual.pdf",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        state=DocumentState.READY,
        kind="pdf",
        pages=len(pages),
    )
    text, starts, chunks = "", [], []
    for number, page in enumerate(pages, 1):
        starts.append(len(text))
        chunks.append(Chunk("", page, len(text), len(text) + len(page), number, number))
        text += page + "\n\n"
    DocumentText.objects.create(document=document, text=text, page_starts=starts)
    DocumentPiece.objects.create(document=document, version=1, number=0, data=data)
    index.put(document, chunks)
    return str(collection.pk)
