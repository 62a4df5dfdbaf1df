"""Documents of collections: upload in pieces, versions, folders, and their lists.

The file is stored in SQL, like everything else of a collection: it is readable on every web server
and worker, is in the backup, and is deleted in the same transaction.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from collections.abc import Iterator
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max, Q, Sum, Value
from django.db.models.functions import Concat, Length, Substr
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.documents import notes
from chatsite.documents.errors import FileTooLarge
from chatsite.errors import BadRequest
from chatsite.knowledge import collections, schema
from chatsite.knowledge.errors import (
    BadPath,
    CollectionFull,
    DocumentMissing,
    FolderIntoItself,
    PathTaken,
    TooManyDocuments,
    UploadIncomplete,
)
from chatsite.knowledge.models import Collection, Document, DocumentPiece, DocumentState
from chatsite.policy import decisions
from chatsite.policy.features import Feature

# The web server holds a request's whole body in memory.
PIECE_BYTES: Final = 512 * 1024
_PAGE: Final = 100
_PATH_CHARS: Final = 500
# Control characters, and those that change the direction of the surrounding text.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean_path(path: str) -> str:
    """Return a path with plain names and single slashes. Raises `BadPath`."""
    normal = unicodedata.normalize("NFC", _UNFIT.sub("", path)).replace("\\", "/")
    parts = [part.strip() for part in normal.split("/")]
    parts = [part for part in parts if part not in {"", "."}]
    clean = "/".join(parts)
    if not parts or ".." in parts or len(clean) > _PATH_CHARS:
        raise BadPath
    return clean


def readable(user: User, id: uuid.UUID) -> Document:
    """Return a document. Raises `DocumentMissing`."""
    allowed = Collection.objects.readable_by(user).values("pk")
    found = Document.objects.filter(pk=id, collection__in=allowed).first()
    if found is None:
        raise DocumentMissing
    return found


def at_path(user: User, collection: uuid.UUID, path: str) -> Document:
    """Return a document of a collection by its path. Raises `DocumentMissing`."""
    found = collections.readable(user, collection).documents.filter(path=clean_path(path)).first()
    if found is None:
        raise DocumentMissing
    return found


def writable(user: User, id: uuid.UUID) -> Document:
    found = readable(user, id)
    collections.writable(user, found.collection_id)
    return found


def begin(user: User, collection: uuid.UUID, asked: schema.NewDocument) -> schema.Upload:
    """Start the upload of a document, new or with new content.

    A document keeps its present content until `finish`.
    """
    decisions.require(user, Feature.KNOWLEDGE)
    into = collections.writable(user, collection)
    path = clean_path(asked.path)
    limit = settings.ENV.document_mb
    if asked.size > limit * 1_000_000:
        raise FileTooLarge(limit=limit)
    with transaction.atomic():
        found = Document.objects.filter(collection=into, path=path).first()
        if found is not None and asked.sha256 == found.sha256 and _is_kept(found):
            return schema.Upload(str(found.pk), found.version, PIECE_BYTES, unchanged=True)
        _require_room(into, asked.size, new=found is None)
        if found is None:
            found = Document.objects.create(
                collection=into,
                path=path,
                size=asked.size,
                sha256="",
                version=0,
                added_by=user,
                state=DocumentState.UPLOADING,
            )
        version = found.version + 1
        DocumentPiece.objects.filter(document=found, version__gte=version).delete()
    return schema.Upload(str(found.pk), version, PIECE_BYTES, unchanged=False)


def _is_kept(document: Document) -> bool:
    """Return whether equal content changes nothing; what could not be read is read again."""
    return document.state not in {DocumentState.UPLOADING, DocumentState.FAILED}


def _require_room(into: Collection, size: int, *, new: bool) -> None:
    """Raises `TooManyDocuments` or `CollectionFull`."""
    env = settings.ENV
    if new and into.documents.count() >= env.collection_documents:
        raise TooManyDocuments(limit=env.collection_documents)
    own = Q(collection__owner=into.owner_id) if into.owner_id else Q(collection=into.pk)
    held = Document.objects.filter(own).aggregate(held=Sum("size"))["held"] or 0
    if held + size > env.knowledge_mb * 1_000_000:
        raise CollectionFull(limit=env.knowledge_mb)


def add_piece(user: User, id: uuid.UUID, version: int, number: int, data: bytes) -> None:
    """Save a piece; idempotent. Raises `BadRequest` for a piece that does not fit the upload."""
    found = writable(user, id)
    with transaction.atomic():
        pieces = DocumentPiece.objects.filter(document=found, version=version)
        if version != found.version + 1 or not 0 < len(data) <= PIECE_BYTES:
            raise BadRequest
        if number > pieces.exclude(number=number).count():
            raise BadRequest
        held = pieces.exclude(number=number).aggregate(held=Sum(Length("data")))["held"] or 0
        if held + len(data) > settings.ENV.document_mb * 1_000_000:
            raise FileTooLarge(limit=settings.ENV.document_mb)
        pieces.update_or_create(
            document=found, version=version, number=number, defaults={"data": data}
        )


def finish(user: User, id: uuid.UUID, version: int) -> Document:
    """Make the uploaded pieces the content, and have it read. Idempotent.

    Raises `UploadIncomplete` if there are no pieces.
    """
    found = writable(user, id)
    if found.version == version:
        return found
    digest, size = hashlib.sha256(), 0
    for part in _parts(found.pk, version):
        digest.update(part)
        size += len(part)
    if not size:
        raise UploadIncomplete
    replace(found, version, digest.hexdigest(), size)
    record(
        "document.added",
        user=user,
        target=("document", str(found.pk), found.path),
        version=version,
        size=size,
    )
    found.refresh_from_db()
    return found


def store(
    user: User | None, into: Collection, path: str, data: bytes, *, source_url: str = ""
) -> tuple[Document, bool]:
    """Put a whole file into a collection, for commands; return it, and whether it is new content.

    The caller has checked the rights. Raises as `begin`.
    """
    path = clean_path(path)
    limit = settings.ENV.document_mb
    if len(data) > limit * 1_000_000:
        raise FileTooLarge(limit=limit)
    digest = hashlib.sha256(data).hexdigest()
    with transaction.atomic():
        found = Document.objects.filter(collection=into, path=path).first()
        if found is not None and found.sha256 == digest and _is_kept(found):
            return found, False
        _require_room(into, len(data), new=found is None)
        if found is None:
            found = Document.objects.create(
                collection=into,
                path=path,
                size=len(data),
                sha256="",
                version=0,
                added_by=user,
                state=DocumentState.UPLOADING,
                source_url=source_url,
            )
        version = found.version + 1
        DocumentPiece.objects.filter(document=found, version__gte=version).delete()
        DocumentPiece.objects.bulk_create(
            DocumentPiece(
                document=found, version=version, number=at, data=data[start : start + PIECE_BYTES]
            )
            for at, start in enumerate(range(0, max(1, len(data)), PIECE_BYTES))
        )
        replace(found, version, digest, len(data))
    found.refresh_from_db()
    return found, True


def replace(document: Document, version: int, digest: str, size: int) -> None:
    """Make ``version`` the content and queue it, unless that has been done. Wakes a worker."""
    from chatsite.knowledge import ingest

    with transaction.atomic():
        changed = Document.objects.filter(pk=document.pk, version=version - 1).update(
            version=version,
            sha256=digest,
            size=size,
            state=DocumentState.QUEUED,
            error=None,
            attempt=0,
            leased_until=None,
            not_before=None,
            updated_at=timezone.now(),
        )
        if changed:
            DocumentPiece.objects.filter(document=document, version__lt=version).delete()
    collections.touch(document.collection_id)
    ingest.wake()


def content(document: Document) -> bytes:
    return b"".join(_parts(document.pk, document.version))


def _parts(id: uuid.UUID, version: int) -> Iterator[bytes]:
    rows = DocumentPiece.objects.filter(document=id, version=version).order_by("number")
    for data in rows.values_list("data", flat=True).iterator(16):
        yield bytes(data)


def remove(user: User, id: uuid.UUID) -> None:
    found = writable(user, id)
    target = ("document", str(found.pk), found.path)
    found.delete()
    collections.touch(found.collection_id)
    record("document.deleted", user=user, target=target)


def remove_folder(user: User, collection: uuid.UUID, folder: str) -> int:
    """Delete all documents of a folder and the folders in it; return how many."""
    into = collections.writable(user, collection)
    path = clean_path(folder)
    rows = into.documents.filter(path__startswith=f"{path}/")
    count = rows.count()
    rows.delete()
    collections.touch(into.pk)
    record(
        "document.deleted", user=user, target=("collection", str(into.pk), path), documents=count
    )
    return count


def move(user: User, id: uuid.UUID, path: str) -> Document:
    """Rename a document, or move it to another folder. Raises `PathTaken`."""
    found = writable(user, id)
    found.path = clean_path(path)
    found.renamed = True
    try:
        with transaction.atomic():
            found.save(update_fields=["path", "renamed"])
    except IntegrityError:
        raise PathTaken from None
    _moved(found.collection_id)
    return found


def move_folder(user: User, collection: uuid.UUID, folder: str, path: str) -> int:
    """Rename a folder, or move it into another; return the number of its documents.

    All of them are moved or none. Raises `FolderIntoItself`, `PathTaken` or `BadPath`.
    """
    into = collections.writable(user, collection)
    old, new = f"{clean_path(folder)}/", f"{clean_path(path)}/"
    if new.startswith(old):
        raise FolderIntoItself
    rows = into.documents.filter(path__startswith=old)
    longest = rows.aggregate(longest=Max(Length("path")))["longest"] or 0
    if longest - len(old) + len(new) > _PATH_CHARS:
        raise BadPath
    try:
        with transaction.atomic():
            moved = rows.update(path=Concat(Value(new), Substr("path", len(old) + 1)), renamed=True)
    except IntegrityError:
        raise PathTaken from None
    _moved(into.pk)
    return moved


def _moved(collection: uuid.UUID) -> None:
    """Have documents indexed under their new names: they are found by these too."""
    from chatsite.knowledge import ingest

    collections.touch(collection)
    ingest.wake()


def retry(user: User, id: uuid.UUID) -> Document:
    """Queue a document that could not be read once more."""
    from chatsite.knowledge import ingest

    found = writable(user, id)
    ingest.retry(found)
    found.refresh_from_db()
    return found


# Lists.


def listed(
    user: User, collection: uuid.UUID, folder: str = "", after: str = ""
) -> tuple[list[schema.Folder], list[schema.Document], str | None]:
    """Return the folders and the next documents of a folder, and the cursor of the next page."""
    into = collections.readable(user, collection)
    prefix = f"{clean_path(folder)}/" if folder.strip("/ ") else ""
    rows = into.documents.filter(path__startswith=prefix)
    direct = rows.filter(path__regex=rf"^{re.escape(prefix)}[^/]+$")
    folders: dict[str, int] = {}
    if not after:
        for path in rows.exclude(pk__in=direct.values("pk")).values_list("path", flat=True):
            name = prefix + path[len(prefix) :].split("/", 1)[0]
            folders[name] = folders.get(name, 0) + 1
    page = list(direct.filter(path__gt=after).order_by("path")[: _PAGE + 1])
    following = page[_PAGE - 1].path if len(page) > _PAGE else None
    return (
        [schema.Folder(path, count) for path, count in sorted(folders.items())],
        [serialize(one) for one in page[:_PAGE]],
        following,
    )


def by_path(
    user: User, collection: uuid.UUID, after: str = ""
) -> tuple[list[schema.Document], str | None]:
    """Return the next documents of all folders, and the cursor of the next page."""
    rows = collections.readable(user, collection).documents.filter(path__gt=after).order_by("path")
    page = list(rows[: _PAGE + 1])
    following = page[_PAGE - 1].path if len(page) > _PAGE else None
    return [serialize(one) for one in page[:_PAGE]], following


def serialize(document: Document) -> schema.Document:
    return schema.Document(
        id=str(document.pk),
        path=document.path,
        name=document.path.rpartition("/")[2],
        size=document.size,
        kind=document.kind,
        title=document.title,
        pages=document.pages,
        state=document.state,
        error=document.error,
        notes=notes.worded(document.notes),
        version=document.version,
        source_url=document.source_url,
        updated_at=document.updated_at.isoformat(),
        used=document.uses,
    )
