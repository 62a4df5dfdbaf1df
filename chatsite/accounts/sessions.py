"""Closes the open sockets of people who may no longer use them.

A socket checks its session when it opens and at each command, but one that only listens would
go on receiving after a sign-out. So the end of a session is announced to the channel-layer
group of its person. The announcement may be lost: the check at each command is what protects.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

# Seconds that a sign-out may be held up by a Redis that does not answer.
_PATIENCE = 2.0


def group_of(user_id: Any) -> str:
    """The group that each of the person's sockets joins."""
    return f"user.{user_id}"


def session_hash(session_key: str) -> str:
    """What a session is called outside the database: whoever reads Redis can't take it over."""
    return hashlib.sha256(session_key.encode()).hexdigest()


def end(user_id: Any, session_key: str | None = None) -> None:
    """Sends ``{"type": "session.ended", "session": hash or None}``; None ends all of them.

    Never raises: a sign-out succeeds without Redis.
    """
    message = {
        "type": "session.ended",
        "session": session_hash(session_key) if session_key else None,
    }
    try:
        async_to_sync(_send)(group_of(user_id), message)
    except Exception:
        logger.warning("The sockets of user %s could not be told to close", user_id, exc_info=True)


async def _send(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is not None:
        async with asyncio.timeout(_PATIENCE):
            await layer.group_send(group, message)
