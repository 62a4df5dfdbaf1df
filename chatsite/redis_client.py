"""Clients of the Redis that the settings name."""

from __future__ import annotations

from typing import Any, Final

import redis
from django.conf import settings
from redis.asyncio import Redis

from chatsite import redis_sentinel
from chatsite.stream.wire import Client

# The timeout of Redis for pages, probes and commands.
PATIENCE_SECONDS: Final = 2.0
# Above the longest blocking read, so that only dead connections time out.
_SOCKET_TIMEOUT_SECONDS: Final = 30
_BRIEF: Final[dict[str, Any]] = {
    "socket_timeout": PATIENCE_SECONDS,
    "socket_connect_timeout": PATIENCE_SECONDS,
}


def connect() -> Redis:
    """Return a client for the life of a process; closing it also closes its wires."""
    url = settings.REDIS_URL
    options: dict[str, Any] = {"socket_timeout": _SOCKET_TIMEOUT_SECONDS}
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    return open_client(url, **options)


def connect_briefly() -> Redis:
    """Return a client for a few commands, each within `PATIENCE_SECONDS`; the caller closes it."""
    return open_client(settings.REDIS_URL, **_BRIEF)


def connect_blocking() -> redis.Redis:
    """Return a client as `connect_briefly`, for threads without an event loop."""
    return open_blocking_client(settings.REDIS_URL, **_BRIEF)


def open_client(url: str, **options: Any) -> Redis:
    """Return a client of the server at ``url``, or of the master that the Sentinels name."""
    if settings.ENV.redis_sentinels:
        return Client.from_pool(redis_sentinel.async_pool(url, **options))
    return Client.from_url(url, **options)


def open_blocking_client(url: str, **options: Any) -> redis.Redis:
    """Return a client as `open_client`, for threads without an event loop."""
    if settings.ENV.redis_sentinels:
        return redis.Redis.from_pool(redis_sentinel.BlockingPool.from_url(url, **options))
    return redis.Redis.from_url(url, **options)
