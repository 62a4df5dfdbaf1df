"""Commands to inference hosts: load or tune a model, check an engine, drop a user's KV cache."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from asgiref.sync import async_to_sync
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.errors import ModelUnavailable
from chatsite.hosts import status
from chatsite.redis_client import connect, connect_briefly
from chatsite.redis_keys import host_hints

log = logging.getLogger(__name__)


async def load(redis: Redis, name: str, keep_alive: float | None = None) -> None:
    """Load the model ``name`` of the catalogue on one host.

    ``keep_alive`` is its idle time in seconds until it is unloaded, without limit if negative, or
    None for the model's own setting. `status` shows the progress. Raises `ModelUnavailable` if no
    host is alive.
    """
    hosts = await status.alive(redis)
    if not hosts:
        raise ModelUnavailable
    # One host is enough: one that holds it, or the one with the most memory left.
    holders = [host for host in hosts if any(model.name == name for model in host.models)]
    chosen = max(holders or hosts, key=_memory_left)
    words = ["load", name, *([] if keep_alive is None else [f"{keep_alive:g}"])]
    await redis.publish(host_hints(chosen.id), " ".join(words))


async def tune(redis: Redis, names: Iterable[str]) -> None:
    """Ask one host to tune newly installed models while it is idle.

    The hint may be lost: a model is also tuned after it has been loaded.
    """
    hosts = await status.alive(redis)
    if not hosts:
        return
    chosen = max(hosts, key=_memory_left)
    for name in names:
        await redis.publish(host_hints(chosen.id), f"tune {name}")


def tune_from_thread(names: Collection[str]) -> None:
    """Call `tune` from a thread without an event loop.

    Without a host or Redis the settings are tuned after the model has been loaded.
    """
    if not names:
        return

    async def ask() -> None:
        redis = connect()
        try:
            await tune(redis, sorted(names))
        finally:
            await redis.aclose()

    try:
        async_to_sync(ask)()
    except (RedisError, OSError) as error:
        log.info("No host is available for tuning", extra={"models": sorted(names), "error": error})


async def unload(redis: Redis, digest: str) -> int:
    """Unload the model on hosts where it is idle; return the number of its running answers."""
    busy = 0
    for host in await status.alive(redis):
        held = [model for model in host.models if model.digest == digest]
        if not held:
            continue
        busy += held[0].busy
        await redis.publish(host_hints(host.id), f"unload {digest}")
    return busy


async def check_engine(engine: int | None = None) -> int:
    """Have hosts read the remote engines again, and check one; return how many hosts heard it.

    Uses a connection of its own. Raises `RedisError` or `OSError`.
    """
    async with connect_briefly() as redis:
        heard = 0
        for host in await status.alive(redis):
            text = f"engine {'' if engine is None else engine}"
            heard += await redis.publish(host_hints(host.id), text)
        return heard


async def drop_cache(redis: Redis, owner: str) -> int:
    """Ask all hosts to drop the KV cache of the user ``owner``; return their number.

    The hint may be lost; then the cache stays in memory until it is evicted or the model unloaded.
    """
    hosts = await status.alive(redis)
    for host in hosts:
        await redis.publish(host_hints(host.id), f"drop_cache {owner}")
    return len(hosts)


def drop_cache_from_thread(owner: str) -> int:
    """Call `drop_cache` from a thread without an event loop. Raises `RedisError` or `OSError`."""

    async def ask() -> int:
        redis = connect_briefly()
        try:
            return await drop_cache(redis, owner)
        finally:
            await redis.aclose()

    return async_to_sync(ask)()


def _memory_left(host: status.HostStatus) -> int:
    return host.memory.budget - host.memory.committed if host.memory else 0
