"""Open pages learn of changed notices: on the socket, once for each change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.sessions.backends.db import SessionStore

from chatsite.accounts.models import User
from chatsite.bench.users import cookie_of
from chatsite.chat import notice_watch
from chatsite.chat.consumer import ChatConsumer
from chatsite.site_settings import banner
from chatsite.site_settings.save import save

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_url")]


async def socket_of(user: User, query: str = "") -> WebsocketCommunicator:
    key = (await sync_to_async(cookie_of)(user)).partition("=")[2]
    socket = WebsocketCommunicator(ChatConsumer.as_asgi(), f"/ws/chat/{query}")
    socket.scope["session"] = SessionStore(session_key=key)
    socket.scope["cookies"] = {}
    assert (await socket.connect())[0]
    return socket


async def event_of(socket: WebsocketCommunicator) -> Any:
    return json.loads(await socket.receive_from(5))


async def test_a_change_reaches_each_open_page(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_watch, "PERIOD_SECONDS", 0.01)
    shown = banner.notices_digest()
    sockets = [await socket_of(alice, f"?notices={shown}"), await socket_of(alice)]
    await sync_to_async(save)({"banner_text": "Moved"})
    for socket in sockets:
        assert await event_of(socket) == {"type": "notices", "digest": banner.notices_digest()}
        assert await socket.receive_nothing(0.05)
        await socket.disconnect()
    assert banner.notices_digest() != shown


async def test_a_page_that_was_disconnected_learns_it_on_return(alice: User) -> None:
    shown = banner.notices_digest()
    await sync_to_async(save)({"banner_text": "Moved"})
    socket = await socket_of(alice, f"?notices={shown}")
    assert await event_of(socket) == {"type": "notices", "digest": banner.notices_digest()}
    await socket.disconnect()
    for query in (f"?notices={banner.notices_digest()}", "", "?notices=&notices", "?%ff=%00"):
        again = await socket_of(alice, query)
        assert await again.receive_nothing(0.02)
        await again.disconnect()
