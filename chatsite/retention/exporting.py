"""Export of everything about a user as one ZIP file, in the background."""

from __future__ import annotations

import csv
import io
import json
import logging
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone, translation

from chatsite.accounts import sessions
from chatsite.accounts.models import ApiKey, User
from chatsite.audit.models import Event
from chatsite.audit.record import record
from chatsite.conversations.assistants.models import Assistant
from chatsite.conversations.attachments.models import Attachment
from chatsite.conversations.models import Conversation, Generation
from chatsite.errors import StorageFull
from chatsite.exchange import writers
from chatsite.feedback import ratings
from chatsite.retention import work
from chatsite.retention.errors import ExportOpen
from chatsite.retention.models import AdminRead, Deletion, Export, WorkState
from chatsite.sharing.models import Share
from models_admin.store import disk

log = logging.getLogger(__name__)

TASK: Final = "chatsite.retention.export"
KEPT: Final = timedelta(hours=24)
_FOLDER: Final = "exports"
_RENEW_SECONDS: Final = 2.0
_EVENTS_MOST: Final = 20_000


def request_export(user: User, *, request: HttpRequest | None = None) -> Export:
    """Queue an export. Raises `ExportOpen`."""
    try:
        with transaction.atomic():
            export = Export.objects.create(owner=user, language=translation.get_language() or "")
    except IntegrityError as error:
        raise ExportOpen from error
    record("retention.export_requested", request=request, user=user)
    work.wake_after_commit(TASK, export.pk)
    return export


def path_of(export: Export) -> Path:
    return settings.DATA_DIR / _FOLDER / f"{export.pk}.zip"


def run(id: UUID) -> None:
    """Attempt an export. A killed worker leaves a partial file, which the next attempt replaces."""
    export = work.claim(Export, id)
    if export is None:
        return
    path = path_of(export)
    partial = path.with_suffix(f".{export.attempts}.part")
    try:
        with disk.full_refused():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with translation.override(export.language or settings.LANGUAGE_CODE):
                _write(export, partial)
            partial.chmod(0o600)
            partial.replace(path)
        work.finish(export, size=path.stat().st_size, expires_at=timezone.now() + KEPT)
    except work.LeaseLost:
        log.info("Export is continued by another worker", extra={"export": id})
    except StorageFull as error:
        work.fail(export, error)
    finally:
        partial.unlink(missing_ok=True)
        for stale in path.parent.glob(f"{export.pk}.*.part"):
            stale.unlink(missing_ok=True)


def _write(export: Export, path: Path) -> None:
    owner = export.owner
    total = 2 * Conversation.objects.of(owner).count()
    work.renew(export, total=total, done=0)
    renewed, done = time.monotonic(), 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for _step in _steps(owner, archive):
            done += 1
            if time.monotonic() - renewed > _RENEW_SECONDS:
                work.renew(export, done=min(done, total))
                renewed = time.monotonic()
    work.renew(export, done=total)


def _steps(owner: User, archive: zipfile.ZipFile) -> Iterator[None]:
    for name, content in (
        ("profile.json", _profile(owner)),
        ("assistants.json", list(map(_assistant, Assistant.objects.of(owner)))),
        ("shares.json", list(map(_share, Share.objects.of(owner)))),
        ("api-keys.json", list(map(_key, ApiKey.objects.of(owner)))),
        ("sessions.json", _sessions(owner)),
        ("administrators-reads.json", list(map(_read, AdminRead.objects.of(owner)))),
        ("deletions.json", list(map(_deletion, Deletion.objects.of(owner)))),
        ("audit.json", _events(owner)),
        ("ratings.json", ratings.given_by(owner)),
    ):
        archive.writestr(name, json.dumps(content, ensure_ascii=False, indent=1))
    archive.writestr("usage.csv", _usage(owner))
    yield from writers.write_conversations(owner, archive)
    own = Attachment.objects.of(owner).filter(ready=True)
    for number, item in enumerate(own.exclude(conversation__deleted_at__isnull=False).iterator(20)):
        name = writers.safe_name(item.name)
        archive.writestr(f"attachments/{number + 1:05} {name}.txt", item.text)
        yield


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment else None


def _profile(owner: User) -> dict[str, Any]:
    return {
        "username": owner.get_username(),
        "name": owner.get_full_name(),
        "email": owner.email,
        "groups": sorted(owner.groups.values_list("name", flat=True)),
        "joined_at": _iso(owner.date_joined),
        "last_sign_in": _iso(owner.last_login),
        "exported_at": _iso(timezone.now()),
    }


def _assistant(item: Assistant) -> dict[str, Any]:
    names = ("name", "icon", "description", "model", "system", "parameters", "suggestions")
    return {name: getattr(item, name) for name in names} | {"created_at": _iso(item.created_at)}


def _share(item: Share) -> dict[str, Any]:
    return {
        "title": item.title,
        "conversation": str(item.conversation_id),
        "shared_at": _iso(item.taken_at),
        "messages": item.messages,
    }


def _key(item: ApiKey) -> dict[str, Any]:
    times = ("created_at", "expires_at", "last_used_at", "revoked_at")
    known = {"name": item.name, "prefix": item.prefix, "scopes": item.scopes.split()}
    return known | {name: _iso(getattr(item, name)) for name in times}


def _sessions(owner: User) -> list[dict[str, Any]]:
    return [
        {"address": one.address, "agent": one.agent, "last_seen_at": _iso(one.last_seen_at)}
        for one in sessions.active(owner)
    ]


def _read(item: AdminRead) -> dict[str, Any]:
    return {
        "at": _iso(item.created_at),
        "by": item.reader,
        "reason": item.reason,
        "conversation": str(item.conversation_id or ""),
        "messages": item.messages,
    }


def _deletion(item: Deletion) -> dict[str, Any]:
    return {
        "at": _iso(item.created_at),
        "scope": item.scope,
        "requested_by": item.requested_by,
        "removed": item.report,
    }


def _events(owner: User) -> list[dict[str, Any]]:
    """Return the newest audit events that the user caused, without those of others about them."""
    found = Event.objects.filter(actor_id=str(owner.pk)).order_by("-sequence")[:_EVENTS_MOST]
    return [
        {
            "at": _iso(event.time),
            "kind": event.kind,
            "outcome": event.outcome,
            "via": event.via,
            "address": event.address,
            "client": event.agent,
            "target": event.target_name or event.target_id,
        }
        for event in found
    ]


def _usage(owner: User) -> str:
    written = io.StringIO()
    table = csv.writer(written)
    names = (
        *("queued_at", "via", "model", "state", "prompt_tokens", "cached_tokens"),
        *("completion_tokens", "finished_at"),
    )
    table.writerow(names)
    for row in Generation.objects.of(owner).order_by("queued_at").values_list(*names).iterator():
        table.writerow(_iso(value) if hasattr(value, "isoformat") else value for value in row)
    return written.getvalue()


def remove_expired() -> None:
    """Delete the files of expired exports; partial files that no worker writes any more."""
    for export in Export.objects.filter(expires_at__lt=timezone.now()):
        path_of(export).unlink(missing_ok=True)
        export.delete()
    folder = settings.DATA_DIR / _FOLDER
    known = {str(id) for id in Export.objects.values_list("pk", flat=True)}
    for file in folder.glob("*") if folder.is_dir() else ():
        if file.name.split(".")[0] not in known:
            file.unlink(missing_ok=True)


def remove_files(owner: User) -> None:
    for export in Export.objects.of(owner):
        path_of(export).unlink(missing_ok=True)
        for stale in path_of(export).parent.glob(f"{export.pk}.*"):
            stale.unlink(missing_ok=True)


def latest(owner: User) -> Export | None:
    """Return the user's newest export that has not expired."""
    found = Export.objects.of(owner).exclude(state=WorkState.DONE, expires_at__lt=timezone.now())
    return found.first()
