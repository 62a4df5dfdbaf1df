"""Removal of conversations with all that belongs to them, in small transactions."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from django.apps import apps
from django.db import transaction
from django.db.models import Count, Sum
from redis.exceptions import RedisError

from chatsite.conversations.models import Conversation, ConversationQuerySet, Generation, Message
from chatsite.hosts import commands
from chatsite.redis_client import connect_blocking
from chatsite.redis_keys import stream_key
from chatsite.retention import erase
from chatsite.retention.report import Report

log = logging.getLogger(__name__)

# Conversations, and messages, of one transaction. SQLite has one writer: others wait meanwhile.
BATCH: Final = 25
MESSAGES: Final = 400

# Called in the transaction of a batch with what has been removed so far.
Save = Callable[[Report], None]


def purge(found: ConversationQuerySet, report: Report, save: Save) -> None:
    """Purge conversations; ``report`` gets what is removed.

    ``save`` is called within the transaction of each batch, so that a report survives the process.
    Conversations restored or continued meanwhile are kept: ``found`` is evaluated again.
    """
    while ids := list(found.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        if not purge_batch(found, ids, report, save):
            return


def purge_batch(
    found: ConversationQuerySet, ids: Collection[uuid.UUID], report: Report, save: Save
) -> bool:
    """Purge a batch; False if nothing was removed, as all of it changed meanwhile."""
    long = Conversation.objects.filter(pk__in=ids).annotate(size=Count("messages"))
    for id in long.filter(size__gt=MESSAGES).values_list("pk", flat=True):
        _shorten(found, id, report, save)
    with transaction.atomic():
        # Locked by primary key alone: PostgreSQL can't lock rows of a query with aggregates.
        locked = Conversation.objects.select_for_update().filter(pk__in=ids)
        list(locked.values_list("pk", flat=True))
        still = list(found.filter(pk__in=ids).values_list("pk", flat=True))
        if not still:
            return False
        streams = _clear_generations(Generation.objects.filter(message__conversation__in=still))
        attached = apps.get_model("attachments", "Attachment").objects.filter(
            conversation__in=still
        )
        removed = Report()
        removed.add(
            statistics_kept=len(streams),
            attachment_bytes=attached.aggregate(size=Sum("size"))["size"] or 0,
        )
        removed.add_rows(Conversation.objects.filter(pk__in=still).delete()[1])
        take(report, removed, save)
    report.add(streams=drop_streams(streams))
    return True


def _shorten(found: ConversationQuerySet, id: uuid.UUID, report: Report, save: Save) -> None:
    """Remove the messages of a long conversation but the oldest, newest first: leaves first."""
    while True:
        with transaction.atomic():
            list(Conversation.objects.select_for_update().filter(pk=id).values_list("pk"))
            if not found.filter(pk=id).exists():
                return
            newest = Message.objects.filter(conversation=id).order_by("-created_at", "-pk")
            ids = list(newest.values_list("pk", flat=True)[:MESSAGES])
            if len(ids) < MESSAGES:
                return
            streams = _clear_generations(Generation.objects.filter(message__in=ids))
            removed = Report()
            removed.add(statistics_kept=len(streams))
            removed.add_rows(Message.objects.filter(pk__in=ids).delete()[1])
            take(report, removed, save)
        report.add(streams=drop_streams(streams))


def _clear_generations(found: Any) -> list[str]:
    ids = [str(pk) for pk in found.values_list("pk", flat=True)]
    Generation.objects.filter(pk__in=ids).clear_content()
    return ids


def take(report: Report, removed: Report, save: Save) -> None:
    """Add ``removed`` and save; after a rollback ``report`` is as it was."""
    before = report.counts
    report.add(**removed.counts)
    try:
        save(report)
    except BaseException:
        report.counts = before
        raise


def drop_streams(generations: Iterable[str]) -> int:
    """Delete streams from Redis; return how many there were.

    Without Redis they expire by themselves.
    """
    keys = [stream_key(id) for id in generations]
    if not keys:
        return 0
    try:
        with connect_blocking() as redis:
            count = int(redis.unlink(*keys))
    except (RedisError, OSError) as error:
        log.warning("Streams of deleted chats remain until they expire", extra={"error": error})
        return 0
    return count


def drop_caches(owner: str) -> int:
    """Ask all hosts to drop the KV cache of a user; return their number, 0 without Redis."""
    try:
        return commands.drop_cache_from_thread(owner)
    except (RedisError, OSError) as error:
        log.warning("KV cache remains until it is evicted", extra={"error": error})
        return 0


def finish(owner: str, report: Report) -> None:
    """Remove what deletions leave behind: the KV cache, and traces in files."""
    report.add(kv_cache_hosts=drop_caches(owner))
    erase.soon()
