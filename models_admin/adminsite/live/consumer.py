"""The admin's WebSocket, which sends the state of jobs and hosts when it changes."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec
from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError
from django.utils import translation
from redis.exceptions import RedisError

from chatsite.accounts import identity
from chatsite.accounts.models import User
from chatsite.answers.runtime import runtime
from chatsite.hosts import status
from chatsite.rate_limit import RateLimiter
from models_admin.adminsite.live import snapshot
from models_admin.jobs import progress

log = logging.getLogger(__name__)

SIGNED_OUT: Final = 4401
POLICY_VIOLATION: Final = 1008
PERIOD_SECONDS: Final = 1.0


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # untyped library
    """One socket. Each polls the state once a second, as administrators are few."""

    async def connect(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.frames = RateLimiter(20, 1)
        await self.accept()
        self.language = identity.language(self.scope)
        self.session_key = self.scope["session"].session_key
        self.task = asyncio.create_task(self._follow())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore messages: there are no commands. Close the socket if there are too many."""
        if not self.frames.take():
            await self.close(POLICY_VIOLATION)

    async def disconnect(self, code: int) -> None:
        if self.task:
            self.task.cancel()

    async def _follow(self) -> None:
        told = b""
        while True:
            try:
                user = await identity.session_user(self.session_key)
                if user is None or not await sync_to_async(may_see)(user):
                    await self.close(SIGNED_OUT)
                    return
                now = msgspec.json.encode(await self._now())
            except (RedisError, DatabaseError) as error:
                log.warning("Live update of the administration skipped", extra={"error": error})
            else:
                if now != told:
                    await self.send(text_data=now.decode())
                    told = now
            await asyncio.sleep(PERIOD_SECONDS)

    async def _now(self) -> snapshot.Snapshot:
        hosts = await status.alive(runtime().redis)
        with translation.override(self.language):
            return snapshot.Snapshot(
                hosts=[snapshot.host_row(host) for host in hosts], jobs=await _jobs()
            )


def may_see(user: User) -> bool:
    """Return whether the user may see jobs and hosts. Reads the database."""
    return user.is_staff and user.has_perm("models_admin.view_job")


async def _jobs() -> list[snapshot.JobRow]:
    """Return the rows of jobs. Raises `RedisError` if their progress can't be read."""
    found = await sync_to_async(snapshot.jobs)()
    running = await progress.read_async(runtime().redis, snapshot.running(found))
    return snapshot.job_rows(found, running)
