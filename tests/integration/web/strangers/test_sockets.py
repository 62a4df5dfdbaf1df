"""Each socket and each of its commands: for the owner, other users, and without a session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from redis.asyncio import Redis

from chatsite.accounts import sessions
from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.answers.runtime import close_runtime
from chatsite.bench.users import cookie_of
from chatsite.chat.consumer import ChatConsumer
from models_admin.adminsite.live import consumer as admin_consumer
from tests.integration.web.strangers.sockets import ADMIN, CHAT, ROWS, SocketRow
from tests.integration.web.strangers.table import World

pytestmark = pytest.mark.usefixtures("data_dir")

SIGNED_OUT = 4401
STOP = next(row for row in ROWS if row.command.get("type") == "stop")
_ids = count()
CONSUMERS: dict[str, Any] = {CHAT: ChatConsumer, ADMIN: admin_consumer.LiveConsumer}


@pytest.fixture
async def world(transactional_db: None, redis: Redis) -> AsyncIterator[World]:
    made = await sync_to_async(World)()
    for name in ("conversation", "message", "question", "cut", "generation", "model"):
        await sync_to_async(made.fact)(name)
    yield made
    await close_runtime()


class Socket:
    """A socket opened with the session of a user, or without one."""

    def __init__(self, path: str, key: str | None) -> None:
        self.key = key
        self._socket = WebsocketCommunicator(CONSUMERS[path].as_asgi(), f"/{path}")
        self._socket.scope["session"] = SessionStore(session_key=key)
        self._socket.scope["cookies"] = {}

    async def __aenter__(self) -> Socket:
        assert (await self._socket.connect())[0]
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._socket.disconnect()

    async def next(self, seconds: float = 60) -> dict[str, Any]:
        """Return the next event, or ``{"close": code}``."""
        message = await self._socket.receive_output(timeout=seconds)
        if message["type"] == "websocket.close":
            return {"close": message["code"]}
        event: dict[str, Any] = json.loads(message["text"])
        return event

    async def ask(self, row: SocketRow, world: World, *, missing: bool = False) -> dict[str, Any]:
        """Send the command of a row and return the event that answers it."""
        command = dict(row.command)
        if "id" in command:
            command["id"] = str(next(_ids))  # of turns: a known one would repeat its answer
        body = await sync_to_async(world.body)(command, missing=missing)
        await self._socket.send_to(text_data=body.decode())
        if not row.owner:
            assert await self._socket.receive_nothing(0.05)
            return {}
        while True:
            event = await self.next()
            if event.get("id") == command.get("id") or "close" in event:
                return event


async def opened(path: str, user: User | None) -> Socket:
    if user is None:
        return Socket(path, None)
    cookie = await sync_to_async(cookie_of)(user)
    return Socket(path, cookie.partition("=")[2])


async def test_commands_reach_only_ones_own_objects(world: World) -> None:
    for row in (row for row in ROWS if row.command):
        async with await opened(row.path, world.other) as socket:
            event = await socket.ask(row, world)
            none = await socket.ask(row, world, missing=True)
        assert event.get("error", {}).get("code", "") == row.other, row
        assert none.get("error") == event.get("error"), row
    for row in (row for row in ROWS if row.command):
        async with await opened(row.path, world.owner) as socket:
            event = await socket.ask(row, world)
        assert event.get("type", "") == row.owner, (row, event)


async def test_a_socket_without_a_session_closes(world: World) -> None:
    await User.objects.filter(pk=world.deactivated.pk).aupdate(is_active=False)
    for path in CONSUMERS:
        for user in (None, world.deactivated):
            async with await opened(path, user) as socket:
                assert await socket.next() == {"close": SIGNED_OUT}


async def test_a_session_that_ends_closes_its_open_sockets(world: World) -> None:
    """Commands are refused, and sockets that only receive are closed by the announcement."""
    for how in ("signed out", "deactivated"):
        for row in (row for row in ROWS if row.command and row.owner):
            async with await opened(row.path, world.other) as socket:
                await end(world.other, socket, how)
                event = await socket.ask(row, world)
                assert event["error"]["code"] == "not_signed_in", row
                assert await socket.next() == {"close": SIGNED_OUT}
            await User.objects.filter(pk=world.other.pk).aupdate(is_active=True)
        async with await opened(CHAT, world.other) as socket:
            await socket.ask(STOP, world)  # so it has joined its group
            await end(world.other, socket, how)
            await asyncio.to_thread(sessions.end, world.other.pk, None)
            assert await socket.next() == {"close": SIGNED_OUT}
        await User.objects.filter(pk=world.other.pk).aupdate(is_active=True)


async def end(user: User, socket: Socket, how: str) -> None:
    if how == "signed out":
        await Session.objects.filter(session_key=socket.key).adelete()
    else:
        await User.objects.filter(pk=user.pk).aupdate(is_active=False)


async def test_roles_open_the_sockets_of_the_administration(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {
        Role.ADMINISTRATOR: world.root,
        Role.MODEL_MANAGER: world.manager,
        Role.AUDITOR: world.auditor,
        Role.USER: world.other,
    }
    monkeypatch.setattr(admin_consumer, "PERIOD_SECONDS", 0.05)
    for row in (row for row in ROWS if row.path == ADMIN):
        for role, user in users.items():
            async with await opened(row.path, user) as socket:
                event = await socket.next()
            assert ("close" not in event) is (role in row.roles), (row, role)
        # A demotion closes the open socket.
        async with await opened(row.path, world.manager) as socket:
            assert "close" not in await socket.next()
            world.manager.role = Role.AUDITOR
            await world.manager.asave()
            assert await socket.next() == {"close": SIGNED_OUT}
