"""The errors that users get when a server that the product depends on fails."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from redis.exceptions import OutOfMemoryError, RedisError

from chatsite.errors import ChatsiteError, QueueMemoryFull, StorageFull, StreamsUnavailable

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SQLSTATE_DISK_FULL = "53100"
# Messages of SQLite, and of system errors that Redis quotes in its MISCONF.
_WORDS = ("database or disk is full", "no space left on device", "disk quota exceeded")


def server_fault(error: BaseException) -> ChatsiteError:
    """Return `StorageFull` if a full disk caused ``error``, else the general server error."""
    return StorageFull() if is_storage_full(error) else ChatsiteError()


def queue_fault(error: RedisError) -> ChatsiteError:
    """Return the error for a failure of Redis.

    `StorageFull` or `QueueMemoryFull` if it refuses writes because its disk or memory is full, else
    `StreamsUnavailable`.
    """
    if isinstance(error, OutOfMemoryError):
        return QueueMemoryFull()
    return StorageFull() if is_storage_full(error) else StreamsUnavailable()


def is_storage_full(error: BaseException) -> bool:
    """Whether ``error`` or one of its causes says that a disk or quota is full."""
    return any(_says_full(cause) for cause in _causes(error))


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    if getattr(error, "sqlstate", None) == _SQLSTATE_DISK_FULL:
        return True
    text = str(error).lower()
    return any(words in text for words in _WORDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
