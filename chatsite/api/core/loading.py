"""Loads models on demand for requests that take no place in the queue."""

from __future__ import annotations

import asyncio
from typing import Final

from redis.asyncio import Redis

from chatsite.errors import ModelUnavailable, revived
from chatsite.hosts import commands, status

_LOAD_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.2


async def load(redis: Redis, name: str, keep_alive: float | None = None) -> None:
    """Load the model ``name``, and return when a host has it ready.

    ``keep_alive`` is as in `commands.load`. Raises the error with which loading failed, or
    `ModelUnavailable` after a timeout.
    """
    if await is_ready(redis, name) and keep_alive is None:
        return
    await commands.load(redis, name, keep_alive)
    try:
        async with asyncio.timeout(_LOAD_SECONDS):
            while not await is_ready(redis, name):
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise ModelUnavailable from None


async def is_ready(redis: Redis, name: str) -> bool:
    known = status.best(await status.alive(redis), name)
    if known and known.state == "failed":
        raise revived(known.error) or ModelUnavailable()
    return known is not None and known.state == "ready"
