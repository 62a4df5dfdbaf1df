"""Changes to one or many conversations at once, and folders. Each change can be undone."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
from asgiref.sync import sync_to_async
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.answers.runtime import runtime
from chatsite.answers.submit import stop
from chatsite.chat import listing
from chatsite.chat.listing import PINS_MAX
from chatsite.conversations import schema, serialize
from chatsite.conversations.hints import What, conversation_changed, list_changed
from chatsite.conversations.models import Conversation, ConversationQuerySet, Folder, Generation
from chatsite.errors import (
    BadRequest,
    ConversationNotFound,
    FolderNameTaken,
    FolderNotFound,
    TooMany,
)

_FOLDERS_MAX = 200
# Pages get hints for this many conversations; after a larger change they fetch their lists again.
_HINTS_MAX = 20
# Databases limit the parameters of one statement.
_AT_ONCE = 500


class BulkAction(msgspec.Struct, forbid_unknown_fields=True):
    """A change of the conversations ``ids``, or of all in a ``view`` (see `listing.everything`).

    ``folder`` is the target of "move", null for none.
    """

    action: Literal["pin", "unpin", "archive", "unarchive", "move", "delete", "restore"]
    ids: Annotated[list[uuid.UUID], msgspec.Meta(max_length=500)] = []
    view: str | None = None
    folder: uuid.UUID | None = None


async def apply(user: User, order: BulkAction) -> list[schema.Conversation] | list[schema.Moved]:
    """Return the changed conversations, without those that are missing or of other users.

    Of a whole view only ``id`` and the ``folder`` that each was in. Raises `ConversationNotFound`
    if there is none to change, `FolderNotFound`, `TooMany`, and `BadRequest` without ``ids`` and
    ``view`` or with both.
    """
    if bool(order.ids) == (order.view is not None):
        raise BadRequest
    if order.action == "delete":
        # Nobody can read the answers of deleted conversations.
        which = await sync_to_async(_named)(user, order)
        written = Generation.objects.of(user).open().filter(message__conversation__in=which)
        async for generation in written:
            await stop(runtime(), user, str(generation.pk))
    changed = await sync_to_async(_change)(user, order)
    what: What = "deleted" if order.action == "delete" else "updated"
    if len(changed) > _HINTS_MAX:
        await list_changed(user.pk)
    else:
        for item in changed:
            await conversation_changed(user.pk, item.id, what)
    return changed


def _named(user: User, order: BulkAction) -> ConversationQuerySet:
    if order.view is not None:
        return listing.everything(user, order.view)
    own = Conversation.objects
    found = own.deleted_by(user) if order.action == "restore" else own.of(user)
    return found.filter(pk__in=order.ids)


def _change(user: User, order: BulkAction) -> list[schema.Conversation] | list[schema.Moved]:
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
            raise FolderNotFound
        found = _named(user, order).select_for_update()
        before: list[tuple[uuid.UUID, uuid.UUID | None]] = list(
            found.values_list("pk", "folder_id")
        )
        if not before:
            raise ConversationNotFound
        ids = [pk for pk, _folder in before]
        own = Conversation.objects
        for at in range(0, len(ids), _AT_ONCE):
            own.filter(pk__in=ids[at : at + _AT_ONCE]).update(**ways[order.action])
        if order.action == "pin":
            pinned = own.of(user).exclude(pinned_at=None).count()
            if pinned > PINS_MAX:
                raise TooMany(most=PINS_MAX)
        if order.view is not None:
            return [
                schema.Moved(str(pk), None if folder is None else str(folder))
                for pk, folder in before
            ]
        return [serialize.conversation(row) for row in own.filter(pk__in=ids)]


def make_folder(user: User, name: str) -> schema.Folder:
    if Folder.objects.of(user).count() >= _FOLDERS_MAX:
        raise TooMany(most=_FOLDERS_MAX)
    return _save(Folder(owner=user), name)


def rename_folder(user: User, id: uuid.UUID, name: str) -> schema.Folder:
    return _save(_folder(user, id), name)


def delete_folder(user: User, id: uuid.UUID) -> None:
    """Delete a folder; its conversations are kept, outside of any folder."""
    _folder(user, id).delete()


def _folder(user: User, id: uuid.UUID) -> Folder:
    found = Folder.objects.of(user).filter(pk=id).first()
    if found is None:
        raise FolderNotFound
    return found


def _save(folder: Folder, name: str) -> schema.Folder:
    folder.name = " ".join(name.replace("\x00", "").split())
    if not folder.name:
        raise BadRequest
    try:
        with transaction.atomic():
            folder.save()
    except IntegrityError as error:
        raise FolderNameTaken from error
    return serialize.folder(folder)
