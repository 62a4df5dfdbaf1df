"""SIGTERM: pages are sent to another server, requests finish, no connection is accepted."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from tests.integration.web.daphne.conftest import Web, reply, serving
from tests.support.stack import free_port, wait_until

pytestmark = pytest.mark.stack
SERVICE_RESTART = 1012


@pytest.fixture(autouse=True)
def closed(web: Web) -> Iterator[None]:
    """Close the connections of a test."""
    yield
    while web.open:
        web.open.pop().close()


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def open_request(web: Web, port: int, parts: int) -> socket.socket:
    """Send a request whose response takes 0.2 s for each part, and wait for its first bytes."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    web.open.append(connection)
    connection.sendall(web.head(f"GET /parts?{parts}", key=False))
    connection.recv(1, socket.MSG_PEEK)
    return connection


async def test_pages_reconnect_elsewhere_while_requests_finish(web: Web) -> None:
    port = free_port()
    with serving(web.stack, port, CHATSITE_DRAIN_SECONDS="20") as server:
        request = await asyncio.to_thread(open_request, web, port, 10)
        idle = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port))
        web.open.append(idle)
        cookies = {"Cookie": web.cookies}
        async with connect(
            f"ws://127.0.0.1:{port}/ws/chat/",
            origin=Origin(web.stack.url),
            additional_headers=cookies,
            proxy=None,
        ) as page:
            await page.send('{"type": "unsubscribe", "generation": "-"}')
            server.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                await page.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == SERVICE_RESTART
        assert server.poll() is None  # the request is not complete
        await asyncio.to_thread(wait_until, lambda: refused(port), "closed port")
        answer = await asyncio.to_thread(reply, request)
        assert answer.body == b"part " * 10 + b"end"
        # It ends with the last request, not after all of its time.
        assert await asyncio.to_thread(server.wait, 15) == 0


def test_requests_are_cut_after_the_time_to_drain(web: Web) -> None:
    port = free_port()
    with serving(web.stack, port, CHATSITE_DRAIN_SECONDS="0") as server:
        open_request(web, port, 500)
        began = time.monotonic()
        server.terminate()
        assert server.wait(20) == 0
        assert time.monotonic() - began < 20
