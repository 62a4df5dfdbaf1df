"""The list of conversations, a page at a time."""

from __future__ import annotations

import uuid

from django.db.models import Count, Q
from django.db.models.functions import Lower
from django.utils.dateparse import parse_datetime

from chatsite.accounts.models import User
from chatsite.conversations import schema, serialize
from chatsite.conversations.models import Conversation, ConversationQuerySet, Folder
from chatsite.errors import BadRequest

MAIN, ARCHIVE = "main", "archive"
PINS_MAX = 100
_PAGE = 50


def first(user: User, view: str = MAIN) -> schema.FirstPage:
    """Return the first page, with what every view shows."""
    own = Conversation.objects.of(user)
    pinned = own.filter(pinned_at__isnull=False)
    folders = Folder.objects.of(user).order_by(Lower("name"))
    archived = own.exclude(archived_at=None).count()
    filed = own.filter(archived_at=None, folder__isnull=False).values_list("folder")
    counts = {str(folder): count for folder, count in filed.annotate(Count("pk"))}
    newest = page(user, view)
    return schema.FirstPage(
        conversations=newest.conversations,
        more=newest.more,
        pinned=[serialize.conversation(row) for row in pinned[:PINS_MAX]],
        folders=[serialize.folder(row) for row in folders],
        archived=archived > 0,
        counts={**counts, ARCHIVE: archived},
    )


def page(user: User, view: str, before: str | None = None) -> schema.Page:
    """Return conversations, newest first, after the one that ``before`` (``<time>,<id>``) names.

    ``view`` is `MAIN` (neither pinned, nor archived, nor in a folder), `ARCHIVE` or a folder's ID.
    Raises `BadRequest`.
    """
    found = _in_view(user, view).order_by("-updated_at", "-id")
    if view == MAIN:
        found = found.filter(pinned_at=None)
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
    return schema.Page([serialize.conversation(row) for row in rows[:_PAGE]], len(rows) > _PAGE)


def everything(user: User, view: str) -> ConversationQuerySet:
    """Return all that a page shows in ``view``; `MAIN` includes pinned ones of any folder."""
    if view == MAIN:
        return Conversation.objects.of(user).filter(
            Q(folder=None) | Q(pinned_at__isnull=False), archived_at=None
        )
    return _in_view(user, view)


def _in_view(user: User, view: str) -> ConversationQuerySet:
    own = Conversation.objects.of(user)
    if view == ARCHIVE:
        return own.exclude(archived_at=None)
    return own.filter(archived_at=None, folder=None if view == MAIN else _uuid(view))


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise BadRequest from error
