from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from chatsite.env import Environment
from chatsite.supervisor import probes
from chatsite.supervisor.probes import CannotStart


def test_a_free_port_passes_and_stays_free() -> None:
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        port = finder.getsockname()[1]
    probes.check_port("127.0.0.1", port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert server.getsockname()[1] == port


def test_a_port_in_use_is_named_with_another() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} .* in use.*PORT={port + 1}"):
            probes.check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotStart, match="not an address of this machine"):
        probes.check_port("192.0.2.1", 8000)


def test_an_external_redis_that_is_down_is_named_without_its_password() -> None:
    with pytest.raises(CannotStart) as caught:
        probes.check_external_redis("redis://:hunter2@127.0.0.1:1/0")
    assert "127.0.0.1:1/0" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def answering(status: bytes) -> tuple[asyncio.Server, int, list[bytes]]:
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1], requests


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"", False),
    ],
)
async def test_the_site_is_ready_when_healthz_says_200(status: bytes, ready: bool) -> None:
    server, port, requests = await answering(status)
    async with server:
        assert await probes.site_answers("0.0.0.0", port) is ready
    assert requests[0].startswith(b"GET /healthz HTTP/1.1\r\n")


async def test_nothing_is_ready_without_a_listener(tmp_path: Path) -> None:
    assert not await probes.site_answers("127.0.0.1", 1)
    assert not await probes.redis_answers(tmp_path / "none.sock")


@pytest.mark.parametrize(
    ("host", "origins", "url"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:8000/"),
        ("::1", "", "http://[::1]:8000/"),
        ("0.0.0.0", "", "http://127.0.0.1:8000/"),
        ("0.0.0.0", "https://chat.example.org,http://b:1", "https://chat.example.org/"),
        ("10.0.0.5", "https://chat.example.org", "http://10.0.0.5:8000/"),
    ],
)
def test_the_address_shown_is_one_that_works(host: str, origins: str, url: str) -> None:
    assert probes.public_url(Environment(host=host, port=8000, origins=origins)) == url
