"""Hints to a person's open pages through the channel layer. They may be lost: none is needed."""

from __future__ import annotations

import logging
from typing import Literal

from channels.layers import get_channel_layer
from redis.exceptions import RedisError

from chatsite.accounts.sessions import group_of

log = logging.getLogger(__name__)


async def conversation_changed(
    user_id: object, conversation: object, what: Literal["created", "updated", "deleted"]
) -> None:
    message = {"type": "conversation.changed", "conversation": str(conversation), "what": what}
    try:
        await get_channel_layer().group_send(group_of(user_id), message)
    except RedisError as error:
        log.warning("a hint was not sent: %s", error)
