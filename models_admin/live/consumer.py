"""The administration's WebSocket: says how jobs and hosts are, each time that it changes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError
from django.utils import translation
from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.chat import identity
from chatsite.chat.runtime import runtime
from chatsite.inference import status
from models_admin.jobs import progress
from models_admin.live import snapshot

log = logging.getLogger(__name__)

SIGNED_OUT: Final = 4401
_PERIOD: Final = 1.0


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # untyped library
    """Administrators are few: each socket asks for itself, once a second."""

    async def connect(self) -> None:
        self.task: asyncio.Task[None] | None = None
        await self.accept()
        self.language = identity.language(self.scope)
        self.session_key = self.scope["session"].session_key
        self.task = asyncio.create_task(self._follow())

    async def disconnect(self, code: int) -> None:
        if self.task:
            self.task.cancel()

    async def _follow(self) -> None:
        told = b""
        while True:
            try:
                user = await identity.session_user(self.session_key)
                if user is None or not may_see(user):
                    await self.close(SIGNED_OUT)
                    return
                now = msgspec.json.encode(await self._now())
            except (RedisError, DatabaseError) as error:
                log.warning("the administration shows what it showed: %s", error)
            else:
                if now != told:
                    await self.send(text_data=now.decode())
                    told = now
            await asyncio.sleep(_PERIOD)

    async def _now(self) -> dict[str, Any]:
        hosts = await status.alive(runtime().redis)
        with translation.override(self.language):
            return {
                "hosts": [snapshot.host(host) for host in hosts],
                "jobs": await _jobs(),
            }


def may_see(user: User) -> bool:
    return user.is_staff and user.has_perm("models_admin.view_job")


async def _jobs() -> list[dict[str, Any]]:
    """Raises `RedisError` when the progress can't be known."""
    found = await sync_to_async(snapshot.jobs)()
    running = await progress.read_async(runtime().redis, snapshot.running(found))
    return snapshot.as_dicts(found, running)
