"""Connection pools whose server is the master that Redis Sentinels name.

The host of ``CHATSITE_REDIS_URL`` is then the name of the master. A new connection asks the
Sentinels for its address, so after a failover clients reconnect to the new master.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio.sentinel as asynchronous
import redis.sentinel as blocking
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry

# A Sentinel that does not answer is skipped after this many seconds.
_SENTINEL_SECONDS = 1.0


def master_options(url: str) -> tuple[str, dict[str, Any], bool]:
    """Return the master's name, the connection options of ``url``, and whether it uses TLS."""
    options = dict(parse_url(url))  # type: ignore[no-untyped-call]
    tls = options.pop("connection_class", None) is SSLConnection
    options.pop("port", None)
    return str(options.pop("host")), options, tls


def sentinel_options(options: dict[str, Any], *, tls: bool) -> dict[str, Any]:
    """Return the connection options of the Sentinels, with the TLS options of the master.

    They are not retried: the next Sentinel is asked instead.
    """
    own: dict[str, Any] = {
        "socket_timeout": _SENTINEL_SECONDS,
        "socket_connect_timeout": _SENTINEL_SECONDS,
    }
    if settings.ENV.redis_sentinel_password:
        own["password"] = settings.ENV.redis_sentinel_password
    if tls:
        own |= {"ssl": True}
        own |= {name: value for name, value in options.items() if name.startswith("ssl_")}
    return own


def async_pool(url: str, **options: Any) -> asynchronous.SentinelConnectionPool:
    name, given, tls = master_options(url)
    asked = {**sentinel_options(given, tls=tls), "retry": AsyncRetry(NoBackoff(), 0)}
    sentinels = asynchronous.Sentinel(settings.ENV.sentinel_addresses, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    return asynchronous.SentinelConnectionPool(name, sentinels, ssl=tls, **given, **options)  # type: ignore[no-untyped-call]


class BlockingPool(blocking.SentinelConnectionPool):
    """A pool for clients without an event loop, also of Django's cache."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> BlockingPool:
        name, given, tls = master_options(url)
        asked = {**sentinel_options(given, tls=tls), "retry": Retry(NoBackoff(), 0)}
        sentinels = blocking.Sentinel(  # type: ignore[no-untyped-call]
            settings.ENV.sentinel_addresses, sentinel_kwargs=asked
        )
        return cls(name, sentinels, ssl=tls, **given, **options)
