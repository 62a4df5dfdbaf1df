"""The channel layer in Redis, for hints that may be lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from channels_redis.core import RedisChannelLayer
from django.conf import settings
from redis.exceptions import RedisError

from chatsite import redis_sentinel

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class ChannelLayer(RedisChannelLayer):  # type: ignore[misc]  # untyped library
    """A channel layer that retries while Redis is down or refuses writes (full disk).

    An error here would close the listening socket, and with it the way to show its user what is
    wrong.
    """

    def create_pool(self, index: int) -> Any:
        if settings.ENV.redis_sentinels:
            options = dict(self.hosts[index])
            return redis_sentinel.async_pool(options.pop("address"), **options)
        return super().create_pool(index)

    async def receive(self, channel: str) -> dict[str, Any]:
        while True:
            try:
                message: dict[str, Any] = await super().receive(channel)
                return message
            except (RedisError, OSError) as error:
                log.warning("Socket gets no hints; retrying", extra={"error": error})
                await asyncio.sleep(RETRY_SECONDS)
