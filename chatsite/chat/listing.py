"""The list of conversations, a page at a time."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.dateparse import parse_datetime

from chatsite.accounts.models import User
from chatsite.chat import serialize
from chatsite.chat.models import Conversation, Folder
from chatsite.errors import BadRequest

MAIN, ARCHIVE = "main", "archive"
PINS_MAX = 100
_PAGE = 50


def first(user: User, view: str = MAIN) -> dict[str, Any]:
    """The first page, with what stands above it in every view: ``pinned``, ``folders``, and
    whether anything is ``archived``."""
    own = Conversation.objects.of(user)
    pinned = own.filter(pinned_at__isnull=False)
    folders = Folder.objects.of(user).order_by(Lower("name"))
    return {
        **page(user, view),
        "pinned": [serialize.conversation(row) for row in pinned[:PINS_MAX]],
        "folders": [serialize.folder(row) for row in folders],
        "archived": own.exclude(archived_at=None).exists(),
    }


def page(user: User, view: str, before: str | None = None) -> dict[str, Any]:
    """``{conversations, more}``, newest first, from behind the conversation that ``before``
    (``<time>,<id>``) names. ``view`` is `MAIN` (what is neither pinned, nor archived, nor in a
    folder), `ARCHIVE` or a folder's id."""
    found = Conversation.objects.of(user).order_by("-updated_at", "-id")
    if view == ARCHIVE:
        found = found.exclude(archived_at=None)
    elif view == MAIN:
        found = found.filter(archived_at=None, folder=None, pinned_at=None)
    else:
        found = found.filter(archived_at=None, folder=_uuid(view))
    if before:
        moment_text, _, id_text = before.partition(",")
        try:
            moment = parse_datetime(moment_text)
        except ValueError:
            moment = None
        if moment is None:
            raise BadRequest
        found = found.filter(Q(updated_at__lt=moment) | Q(updated_at=moment, id__lt=_uuid(id_text)))
    rows = list(found[: _PAGE + 1])
    return {
        "conversations": [serialize.conversation(row) for row in rows[:_PAGE]],
        "more": len(rows) > _PAGE,
    }


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise BadRequest from error
