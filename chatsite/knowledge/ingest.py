"""Reading of documents: leased work in SQL, of which Celery is only the doorbell and the clock.

Each step is a conditional update. A worker that dies leaves a document in ``READING`` whose lease
expires; another reads it again, and its passages are replaced in one transaction.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError

from chatsite.celery import app
from chatsite.documents import chunks, extract
from chatsite.documents.errors import TooComplex, Unreadable
from chatsite.errors import ChatsiteError
from chatsite.knowledge import index, upload
from chatsite.knowledge.models import Document, DocumentPiece, DocumentState, DocumentText

log = logging.getLogger(__name__)

TASK: Final = "chatsite.knowledge.ingest"
EMBED_TASK: Final = "chatsite.knowledge.embed"
# Longer than the reader child may take.
LEASE: Final = timedelta(seconds=90)
_READ_SECONDS: Final = 30
# Attempts that ended with the worker or the database; then the document is said to be unreadable.
_ATTEMPTS_MAX: Final = 4
_PAUSES: Final = (timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=10))
# An upload that was not completed after this time has been abandoned.
_ABANDONED: Final = timedelta(hours=24)
_CLAIMING: Final = 0x6B6E6F77  # advisory lock key; not used elsewhere


def wake(task: str = TASK) -> None:
    """Send workers a hint after the transaction; a sweep finds the work if the hint is lost."""

    def send() -> None:
        try:
            with app.connection_for_write() as broker:
                broker.ensure_connection(max_retries=1, interval_start=0)
                app.send_task(task, connection=broker)
        except OperationalError as error:
            log.warning("Workers can't be woken; the next sweep does", extra={"error": error})

    transaction.on_commit(send)


def due() -> QuerySet[Document]:
    """Return the documents that a worker may take now."""
    now = timezone.now()
    queued = Q(state=DocumentState.QUEUED) & (Q(not_before=None) | Q(not_before__lte=now))
    left = Q(state=DocumentState.READING, leased_until__lte=now)
    return Document.objects.filter(queued | left)


def claim() -> Document | None:
    """Lease the document that has waited longest; None if none is due or all places are taken."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIMING])
        now = timezone.now()
        held = Document.objects.filter(state=DocumentState.READING, leased_until__gt=now).count()
        if held >= settings.ENV.document_readers:
            return None
        found = due().order_by("updated_at", "pk").first()
        if found is None:
            return None
        changed = Document.objects.filter(pk=found.pk, attempt=found.attempt, state=found.state)
        if not changed.update(
            state=DocumentState.READING, attempt=F("attempt") + 1, leased_until=now + LEASE
        ):
            return None
    found.refresh_from_db()
    return found


def run_all(most: int) -> int:
    """Read at most ``most`` documents that are due; return how many were taken."""
    taken = 0
    while taken < most and (document := claim()) is not None:
        taken += 1
        run(document)
    return taken


def run(document: Document) -> None:
    """Read a leased document and put its passages in the index."""
    if document.attempt > _ATTEMPTS_MAX:
        _fail(document, TooComplex())
        return
    try:
        most = settings.ENV.document_chars
        read = extract.read(upload.content(document), most, seconds=_READ_SECONDS)
        parts = chunks.split(read.text, read.page_starts)
    except Unreadable as error:
        _fail(document, error)
        return
    except Exception:
        log.exception("Document can't be read now", extra={"document": document.pk})
        _put_off(document)
        raise
    with transaction.atomic():
        stored = _held(document).update(
            state=DocumentState.READY,
            kind=read.kind,
            title=read.title[:300],
            pages=read.pages,
            notes=list(read.notes),
            characters=len(read.text),
            error=None,
            leased_until=None,
            updated_at=timezone.now(),
        )
        if not stored:
            return  # deleted, replaced or taken over meanwhile
        DocumentText.objects.update_or_create(
            document=document,
            defaults={"text": read.text, "page_starts": list(read.page_starts)},
        )
        index.put(document, parts)
    log.info(
        "Document indexed",
        extra={"document": document.pk, "pages": read.pages, "passages": len(parts)},
    )
    wake(EMBED_TASK)


def index_names(most: int) -> int:
    """Index at most ``most`` documents under their new names; return how many."""
    done = 0
    for document in Document.objects.filter(renamed=True).order_by("pk")[:most]:
        with transaction.atomic():
            # Not one that was renamed once more meanwhile.
            named = Document.objects.filter(pk=document.pk, path=document.path, renamed=True)
            if named.update(renamed=False):
                index.rename(document)
        done += 1
    return done


def retry(document: Document) -> None:
    """Queue a document that could not be read."""
    Document.objects.filter(pk=document.pk, state=DocumentState.FAILED).update(
        state=DocumentState.QUEUED, error=None, attempt=0, not_before=None
    )
    wake()


def sweep() -> None:
    """Wake workers if there is work, and delete abandoned uploads; started by beat."""
    if due().exists() or Document.objects.filter(renamed=True).exists():
        wake()
    before = timezone.now() - _ABANDONED
    Document.objects.filter(state=DocumentState.UPLOADING, created_at__lt=before).delete()
    stale = DocumentPiece.objects.filter(
        version__gt=F("document__version"), document__updated_at__lt=before
    )
    stale.delete()


def _held(document: Document) -> QuerySet[Document]:
    """Return the document if this worker still holds it and its content is the same."""
    return Document.objects.filter(
        pk=document.pk,
        state=DocumentState.READING,
        attempt=document.attempt,
        version=document.version,
    )


def _fail(document: Document, error: ChatsiteError) -> None:
    """End with an error. Passages of earlier content are removed: they are not this document's."""
    with transaction.atomic():
        changed = _held(document).update(
            state=DocumentState.FAILED,
            error=error.as_dict(),
            leased_until=None,
            characters=0,
            updated_at=timezone.now(),
        )
        if changed:
            index.put(document, ())
            DocumentText.objects.filter(document=document).delete()
    log.info("Document can't be read", extra={"document": document.pk, "error": error.code})


def _put_off(document: Document) -> None:
    pause = _PAUSES[min(document.attempt, len(_PAUSES)) - 1]
    _held(document).update(
        state=DocumentState.QUEUED, not_before=timezone.now() + pause, leased_until=None
    )
