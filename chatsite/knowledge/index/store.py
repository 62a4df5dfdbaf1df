"""The passages of a document and their terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatsite.conversations.attachments.models import Attachment
from chatsite.documents.chunks import Chunk
from chatsite.knowledge.index import terms
from chatsite.knowledge.index.vectors import changed
from chatsite.knowledge.models import Document, Passage, PassageTerms, PassageVectors

_BATCH = 500


def put(document: Document, chunks: Sequence[Chunk]) -> None:
    """Replace the passages of a document, in the transaction of the caller."""
    gone, _each = PassageVectors.objects.filter(document=document).delete()
    Passage.objects.filter(document=document).delete()
    _add([_passage(one, at, document=document) for at, one in enumerate(chunks)], document.path)
    if gone:
        changed(document.pk)


def rename(document: Document) -> None:
    """Index the passages of a document under its present path; its vectors stay."""
    passages = list(Passage.objects.filter(document=document).only("pk", "heading", "text"))
    PassageTerms.objects.filter(passage__document=document).delete()
    _add_terms(passages, document.path)


def put_attachment(attachment: Attachment, chunks: Sequence[Chunk]) -> None:
    """Replace the passages of an attachment, in the transaction of the caller."""
    PassageVectors.objects.filter(attachment=attachment).delete()
    Passage.objects.filter(attachment=attachment).delete()
    made = [_passage(one, at, attachment=attachment) for at, one in enumerate(chunks)]
    _add(made, attachment.name)


def _passage(
    chunk: Chunk,
    number: int,
    *,
    document: Document | None = None,
    attachment: Attachment | None = None,
) -> Passage:
    return Passage(
        document=document,
        attachment=attachment,
        number=number,
        heading=chunk.heading,
        # PostgreSQL can't store NUL in text.
        text=chunk.text.replace("\x00", ""),
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        last_page=chunk.last_page,
    )


def _add(passages: Iterable[Passage], name: str) -> None:
    _add_terms(Passage.objects.bulk_create(passages, batch_size=_BATCH), name)


def _add_terms(passages: Sequence[Passage], name: str) -> None:
    PassageTerms.objects.bulk_create(
        (
            PassageTerms(
                passage=passage,
                terms=set(terms.of_passage(name, passage.heading, passage.text)),
            )
            for passage in passages
        ),
        batch_size=_BATCH,
    )
