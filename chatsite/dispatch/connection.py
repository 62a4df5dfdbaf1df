"""The one way to Redis for our own asyncio code."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from redis.asyncio import Redis

# Above every blocking read of ours, so that it ends only connections that are dead.
_SOCKET_TIMEOUT_SECONDS = 30


def connect() -> Redis:
    """A client of the Redis that the settings name; the caller closes it."""
    url = settings.REDIS_URL
    options: dict[str, Any] = {"socket_timeout": _SOCKET_TIMEOUT_SECONDS}
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    return Redis.from_url(url, **options)
