"""Celery's connection to Redis, from the settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry

from chatsite.env import Environment, in_url

_SENTINEL_SECONDS = 1.0


def options(environment: Environment) -> tuple[str, dict[str, Any] | None, dict[str, Any]]:
    """Return ``broker_url``, ``broker_use_ssl`` and options of the transport.

    Celery takes TLS options as redis-py names them, but not from the address of a Sentinel.
    """
    url = environment.effective_redis_url
    if url.startswith("unix://"):
        return url.replace("unix://", "redis+socket://", 1), None, {}
    parsed = parse_url(url)  # type: ignore[no-untyped-call]
    tls: dict[str, Any] | None = None
    if parsed.get("connection_class") is SSLConnection:
        tls = {"ssl_cert_reqs": "required"}
        tls |= {name: value for name, value in parsed.items() if name.startswith("ssl_")}
    user, password = (
        quote(str(parsed.get(name, "")), safe="") for name in ("username", "password")
    )
    account = f"{user}:{password}@" if user or password else ""
    database = parsed.get("db", 0)
    if not environment.redis_sentinels:
        host = in_url(str(parsed.get("host", "localhost")))
        return f"redis://{account}{host}:{parsed.get('port', 6379)}/{database}", tls, {}
    sentinels: dict[str, Any] = {
        "socket_timeout": _SENTINEL_SECONDS,
        "socket_connect_timeout": _SENTINEL_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    if environment.redis_sentinel_password:
        sentinels["password"] = environment.redis_sentinel_password
    if tls:
        sentinels |= {"ssl": True, **tls}
    addresses = ";".join(
        f"sentinel://{account}{in_url(host)}:{port}/{database}"
        for host, port in environment.sentinel_addresses
    )
    more = {"master_name": parsed["host"], "sentinel_kwargs": sentinels}
    return addresses, tls, more
