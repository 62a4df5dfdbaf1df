"""Removal of deleted text from files: a deleted row or key may stay in them.

SQLite overwrites what is deleted (``secure_delete``), but its journal and the search index keep
older pages until they are rewritten; Redis' append-only file keeps what was added. PostgreSQL
reuses the space after VACUUM, which autovacuum runs.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction
from django.utils import timezone
from redis.exceptions import RedisError, ResponseError

from chatsite.conversations.models import Generation, Via
from chatsite.redis_client import connect_blocking

log = logging.getLogger(__name__)

# Interval of beat.
EVERY_SECONDS: Final = 1800
_DUE: Final = "retention:erase"
_LAST: Final = "retention:erased"
# Pages of the search index that one statement merges; a statement locks the database.
_PAGES: Final = 300
_STEPS_MAX: Final = 10_000
_CHECKPOINT_MS: Final = 500


def soon() -> None:
    """Note that something was deleted; the next run of `run` acts on it."""
    try:
        cache.set(_DUE, True, None)
    except (RedisError, OSError) as error:
        log.warning("Deleted text remains in files until the next run", extra={"error": error})


def minutes(stream_seconds: int) -> int:
    """Return the minutes after which the text of a temporary answer is erased from all files."""
    return -(-(stream_seconds + EVERY_SECONDS) // 60)


def run(*, always: bool = False) -> bool:
    """Rewrite the files if text was deleted or has expired since the last run; return whether."""
    if not _take_due() and not always:
        return False
    if connection.vendor == "sqlite":
        _rewrite_sqlite()
    _rewrite_redis()
    return True


def _take_due() -> bool:
    """Return whether there is something to erase, and note that it is done now."""
    now = timezone.now()
    try:
        due = bool(cache.get(_DUE)) or _expired_since(cache.get(_LAST))
        if due:
            cache.delete(_DUE)
            cache.set(_LAST, now, None)
    except (RedisError, OSError) as error:
        log.warning("Files are rewritten at the next run", extra={"error": error})
        return False
    return due


def _expired_since(last: datetime | None) -> bool:
    """Return whether a stream of a temporary chat has expired since ``last``."""
    ended = Generation.objects.filter(via=Via.TEMPORARY, finished_at__isnull=False)
    if last is not None:
        ended = ended.filter(
            finished_at__gt=last - timedelta(seconds=settings.ENV.temporary_seconds)
        )
    return ended.exists()


def _rewrite_sqlite() -> None:
    """Merge the search index, then empty the write-ahead log."""
    with connection.cursor() as cursor:
        merge = "INSERT INTO search_terms(search_terms, rank) VALUES ('merge', %s)"
        # A negative number begins to merge all segments, a positive one continues.
        for step in range(_STEPS_MAX):
            with transaction.atomic():
                before = _total_changes(cursor)
                cursor.execute(merge, [-_PAGES if step == 0 else _PAGES])
                if _total_changes(cursor) - before < 2:
                    break
        if not connection.in_atomic_block and not _empty_log(cursor):
            soon()


def _empty_log(cursor: Any) -> bool:
    """Empty the write-ahead log; return False if a reader needs it, such as a backup.

    Does not wait for the reader: writers would have to wait as long.
    """
    cursor.execute("PRAGMA busy_timeout")
    (patience,) = cursor.fetchone()
    cursor.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MS}")
    try:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        busy, _pages, _moved = cursor.fetchone()
        return not busy
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {patience}")


def _total_changes(cursor: object) -> int:
    cursor.execute("SELECT total_changes()")  # type: ignore[attr-defined]
    return int(cursor.fetchone()[0])  # type: ignore[attr-defined]


def _rewrite_redis() -> None:
    try:
        with connect_blocking() as redis:
            redis.bgrewriteaof()
    except ResponseError as error:
        # A rewrite is in progress, or the provider of a shared server does not allow it.
        log.info("Redis' append-only file is not rewritten now", extra={"error": error})
    except (RedisError, OSError) as error:
        log.warning("Redis' append-only file is not rewritten", extra={"error": error})
