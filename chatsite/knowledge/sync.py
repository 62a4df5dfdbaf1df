"""Making a collection equal to a folder: compare hashes, upload what differs, then delete."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.errors import BadRequest
from chatsite.knowledge import collections, schema
from chatsite.knowledge.errors import CollectionMissing, SyncIncomplete
from chatsite.knowledge.models import Collection, Document, FolderSync
from chatsite.knowledge.upload import clean_path

# A manifest of 50,000 files.
MANIFEST_BYTES: Final = 16 << 20
_KEPT: Final = timedelta(days=2)
_BATCH: Final = 500


def plan(
    user: User, collection: uuid.UUID, manifest: Sequence[schema.ManifestEntry]
) -> schema.SyncPlan:
    """Compare a collection with a manifest. Raises `BadRequest` for a path that is named twice."""
    return plan_for(collections.writable(user, collection), user, manifest)


def plan_for(
    into: Collection, user: User | None, manifest: Sequence[schema.ManifestEntry]
) -> schema.SyncPlan:
    """Call `plan` for a command, whose caller may change the collection."""
    wanted = {clean_path(one.path): one.sha256 for one in manifest}
    if len(wanted) != len(manifest):
        raise BadRequest(reason="manifest: a path is named twice")
    FolderSync.objects.filter(created_at__lt=timezone.now() - _KEPT).delete()
    made = FolderSync.objects.create(collection=into, user=user, paths=wanted)
    present = dict(into.documents.values_list("path", "sha256"))
    return schema.SyncPlan(
        id=str(made.pk),
        added=sorted(path for path in wanted if path not in present),
        modified=sorted(
            path for path, digest in wanted.items() if path in present and present[path] != digest
        ),
        deleted=sorted(path for path in present if path not in wanted),
        unchanged=sum(present.get(path) == digest for path, digest in wanted.items()),
    )


def finish(user: User, id: uuid.UUID) -> int:
    """Delete the documents that the manifest lacks; return how many.

    Raises `CollectionMissing` or `SyncIncomplete`.
    """
    found = FolderSync.objects.filter(pk=id, user=user).select_related("collection").first()
    if found is None:
        raise CollectionMissing
    collections.writable(user, found.collection_id)
    return finish_for(found)


def finish_for(sync: FolderSync) -> int:
    """Call `finish` for a command."""
    present = dict(
        Document.objects.filter(collection=sync.collection).values_list("path", "sha256")
    )
    if any(present.get(path) != digest for path, digest in sync.paths.items()):
        raise SyncIncomplete
    superfluous = sorted(path for path in present if path not in sync.paths)
    for at in range(0, len(superfluous), _BATCH):
        paths = superfluous[at : at + _BATCH]
        Document.objects.filter(collection=sync.collection, path__in=paths).delete()
    if superfluous:
        record(
            "document.deleted",
            user=sync.user,
            target=("collection", str(sync.collection_id), sync.collection.name),
            documents=len(superfluous),
        )
    sync.delete()
    collections.touch(sync.collection_id)
    return len(superfluous)
