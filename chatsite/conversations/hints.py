"""Hints to a user's open pages through the channel layer. They may be lost; none is required."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from channels.layers import get_channel_layer
from redis.exceptions import RedisError

from chatsite.accounts.sessions import group_of

# The channel layer has no timeout, since it waits for messages indefinitely.
_PATIENCE_SECONDS = 2.0

log = logging.getLogger(__name__)


What = Literal["created", "updated", "deleted"]


async def conversation_changed(user_id: object, conversation: object, what: What) -> None:
    await _send(user_id, str(conversation), what)


async def list_changed(user_id: object) -> None:
    """Hint that many conversations or a folder changed, so pages fetch their lists again."""
    await _send(user_id, None, "updated")


async def _send(user_id: object, conversation: str | None, what: What) -> None:
    message = {"type": "conversation.changed", "conversation": conversation, "what": what}
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await get_channel_layer().group_send(group_of(user_id), message)
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("Hint can't be sent", extra={"error": error})
