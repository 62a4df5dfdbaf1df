"""Putting conversations in order, one or many at once, so that each step can be taken back."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
from asgiref.sync import sync_to_async
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.chat import serialize
from chatsite.chat.hints import conversation_changed
from chatsite.chat.listing import PINS_MAX
from chatsite.chat.models import Conversation, Folder, Generation
from chatsite.chat.runtime import runtime
from chatsite.chat.submit import stop
from chatsite.errors import BadRequest, NameTaken, NotFound, TooMany

_FOLDERS_MAX = 200
# More at once are told to other pages as one change of the list.
_HINTS_MAX = 20


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """``folder`` is where "move" puts them, null for out of all folders."""

    ids: Annotated[list[uuid.UUID], msgspec.Meta(min_length=1, max_length=500)]
    action: Literal["pin", "unpin", "archive", "unarchive", "move", "delete", "restore"]
    folder: uuid.UUID | None = None


async def carry_out(user: User, order: Order) -> list[dict[str, Any]]:
    """The conversations as they are now; without those that are missing or somebody else's,
    and `NotFound` when that is all of them."""
    if order.action == "delete":
        # Nobody will read what is being written.
        written = Generation.objects.of(user).open().filter(message__conversation__in=order.ids)
        async for generation in written:
            await stop(runtime(), user, str(generation.pk))
    changed = await sync_to_async(_change)(user, order)
    what: Literal["deleted", "updated"] = "deleted" if order.action == "delete" else "updated"
    for item in changed[:_HINTS_MAX]:
        await conversation_changed(user.pk, item["id"], what)
    return changed


def _change(user: User, order: Order) -> list[dict[str, Any]]:
    now = timezone.now()
    ways: dict[str, dict[str, Any]] = {
        "pin": {"pinned_at": now, "archived_at": None},
        "unpin": {"pinned_at": None},
        "archive": {"archived_at": now, "pinned_at": None},
        "unarchive": {"archived_at": None},
        "move": {"folder": order.folder},
        "delete": {"deleted_at": now},
        "restore": {"deleted_at": None},
    }
    with transaction.atomic():
        if order.folder and not Folder.objects.of(user).filter(pk=order.folder).exists():
            raise NotFound
        own = Conversation.objects
        found = own.deleted_by(user) if order.action == "restore" else own.of(user)
        rows = list(found.filter(pk__in=order.ids).select_for_update())
        if not rows:
            raise NotFound
        own.filter(pk__in=[row.pk for row in rows]).update(**ways[order.action])
        if order.action == "pin":
            pinned = own.of(user).exclude(pinned_at=None).count()
            if pinned > PINS_MAX:
                raise TooMany(most=PINS_MAX)
        for row in rows:
            row.refresh_from_db()
    return [serialize.conversation(row) for row in rows]


def make_folder(user: User, name: str) -> dict[str, Any]:
    if Folder.objects.of(user).count() >= _FOLDERS_MAX:
        raise TooMany(most=_FOLDERS_MAX)
    return _save(Folder(owner=user), name)


def rename_folder(user: User, id: uuid.UUID, name: str) -> dict[str, Any]:
    return _save(_folder(user, id), name)


def delete_folder(user: User, id: uuid.UUID) -> None:
    """Its conversations stay, outside of any folder."""
    _folder(user, id).delete()


def _folder(user: User, id: uuid.UUID) -> Folder:
    found = Folder.objects.of(user).filter(pk=id).first()
    if found is None:
        raise NotFound
    return found


def _save(folder: Folder, name: str) -> dict[str, Any]:
    folder.name = " ".join(name.replace("\x00", "").split())
    if not folder.name:
        raise BadRequest
    try:
        with transaction.atomic():
            folder.save()
    except IntegrityError as error:
        raise NameTaken from error
    return serialize.folder(folder)
