"""Connections to engines that fail, stall, lie or flood. On real sockets of this machine."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from chatsite.errors import NotFound
from chatsite.inference.remote import transport
from chatsite.inference.remote.connect import connect
from chatsite.inference.remote.contract import (
    Client,
    Interrupted,
    Kind,
    Lied,
    Refused,
    RemoteError,
    Server,
    Stalled,
    Timeouts,
    Unreachable,
)
from tests.support import tls
from tests.support.engines import answer, ask, delta, loopback, sse

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = Timeouts(connect=0.2, reply=0.2, first=0.2, stall=0.1, total=0.4)
GONE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def client(port: int, **fields: object) -> Client:
    server = Server(Kind.OPENAI, f"http://127.0.0.1:{port}", **fields)  # type: ignore[arg-type]
    return connect(server, egress=loopback)


def sending(*parts: bytes, then: float = 0.0) -> Handler:
    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        await asyncio.sleep(then)

    return handler


def head(status: str, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nConnection: close\r\n{lines}\r\n".encode()


async def failure(handler: Handler, timeouts: Timeouts = SHORT, **fields: object) -> RemoteError:
    async with listening(handler) as port:
        engine = client(port, timeouts=timeouts, **fields)
        try:
            with pytest.raises(RemoteError) as raised:
                await answer(engine, ask())
        finally:
            await engine.close()
    return raised.value


async def test_an_answer_over_a_socket() -> None:
    seen = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = await reader.read(9)
        writer.write(GONE + sse(delta(content="Hi"), delta("stop")))

    async with listening(handler) as port:
        engine = client(port)
        assert (await answer(engine, ask())).content == "Hi"
        await engine.close()
    assert seen.startswith(b"{")


async def test_nobody_listens() -> None:
    async with listening(sending()) as port:
        pass
    for call in (client(port).healthy(), client(port).discover(), answer(client(port), ask())):
        with pytest.raises(Unreachable):
            await call


async def test_no_reply_and_no_first_byte_and_a_stall() -> None:
    assert isinstance(await failure(sending(then=5)), Stalled)
    assert isinstance(await failure(sending(GONE, then=5)), Stalled)
    begun = GONE + sse(delta(content="Hi"), done=False)
    error = await failure(sending(begun, then=5))
    assert "sent nothing for 0.1 s" in str(error)


async def test_a_stream_that_never_ends() -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GONE)
        while True:
            writer.write(b": ping\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert "did not end within 0.4 s" in str(await failure(drip))


async def test_a_reply_that_drips() -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", Content_Length="9999"))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with listening(drip) as port:
        with pytest.raises(Stalled):
            await client(port, timeouts=SHORT).discover()


async def test_connections_that_break() -> None:
    assert isinstance(await failure(sending()), Interrupted)
    assert isinstance(await failure(sending(b"HTTP/1.1 2")), Interrupted)
    begun = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    assert isinstance(await failure(sending(begun + b"\r\n5\r\ndata:")), Interrupted)


async def test_no_http() -> None:
    assert isinstance(await failure(sending(b"SSH-2.0-OpenSSH_9\r\n\r\n")), Interrupted)


async def test_other_types_and_codings() -> None:
    page = head("200 OK", Content_Type="text/html") + b"<html>"
    error = await failure(sending(page))
    assert isinstance(error, Lied)
    assert "text/html" in str(error)
    packed = head("200 OK", Content_Type="text/event-stream", Content_Encoding="gzip")
    assert isinstance(await failure(sending(packed)), Lied)


async def test_floods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STREAM_MOST", 1 << 20)
    monkeypatch.setattr(transport, "REPLY_MOST", 1 << 20)
    line = sse(delta(content="a" * 60_000), done=False)
    patient = Timeouts(connect=5, reply=5, first=5, stall=5, total=10)
    assert "longer than 1 MiB" in str(await failure(sending(GONE, *[line] * 30), patient))
    endless = await failure(sending(GONE, b"data: ", *[b"a" * 65_536] * 100), patient)
    assert isinstance(endless, Lied)
    async with listening(sending(head("200 OK"), *[b" " * 65_536] * 300)) as port:
        with pytest.raises(Lied):
            await client(port, timeouts=patient).discover()


@pytest.mark.parametrize(
    ("status", "body", "checks"),
    [
        ("401 Unauthorized", b'{"error": {"message": "Invalid key"}}', "unauthorized"),
        ("404 Not Found", b'{"error": "model not found"}', "missing"),
        ("400 Bad Request", b'{"detail": "no"}', "by_request"),
        ("422 Unprocessable", b'{"detail": [{"msg": "no"}]}', "by_request"),
        ("503 Service Unavailable", b"<html>", "busy"),
        ("500 Internal Server Error", b"\xff", ""),
        ("999 Odd", b"", ""),
    ],
)
async def test_statuses(status: str, body: bytes, checks: str) -> None:
    error = await failure(sending(head(status) + body))
    assert isinstance(error, Refused)
    found = [
        name for name in ("unauthorized", "missing", "by_request", "busy") if getattr(error, name)
    ]
    assert found == ([checks] if checks else [])
    assert error.status == int(status[:3])


async def test_redirects_are_refused() -> None:
    error = await failure(sending(head("307 Temporary", Location="http://elsewhere/")))
    assert isinstance(error, Refused)
    assert "elsewhere" in error.message


async def test_retry_after() -> None:
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    for value, least, most in [("7", 7, 7), ("1e9", 3600, 3600), (in_a_minute, 50, 60)]:
        error = await failure(sending(head("429 Too Many", Retry_After=value)))
        assert isinstance(error, Refused)
        assert error.retry_after is not None
        assert least <= error.retry_after <= most
    for value in ("soon", "nan", ""):
        error = await failure(sending(head("429 Too Many", Retry_After=value)))
        assert isinstance(error, Refused)
        assert error.retry_after is None


async def test_messages_are_bounded_and_without_the_key() -> None:
    body = b'{"error": {"message": "key sk-secret\\n\\u0007 ' + b"x" * 9000 + b'"}}'
    error = await failure(sending(head("401 No") + body), key="sk-secret")
    assert isinstance(error, Refused)
    assert "sk-secret" not in str(error)
    assert len(error.message) < 600
    assert error.message.isprintable()
    assert "sk-secret" not in repr(Server(Kind.OPENAI, "http://a", "sk-secret"))


async def test_the_connection_goes_to_the_checked_address() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK") + b'{"data": []}')

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        await handler(reader, writer)
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    asked: list[str] = []

    async def egress(url: httpx.URL) -> Sequence[str]:
        asked.append(url.host)
        return ["127.0.0.2", "127.0.0.1"]  # nothing listens at the first

    engine = connect(Server(Kind.OPENAI, f"http://gpu.intranet:{port}"), egress=egress)
    await engine.discover()
    await engine.discover()
    await engine.close()
    listener.close()
    assert asked == ["gpu.intranet"]
    assert f"Host: gpu.intranet:{port}".encode() in seen[0]


async def test_addresses_that_are_refused() -> None:
    async def refusing(_url: httpx.URL) -> Sequence[str]:
        raise NotFound("not allowed")

    async def none(_url: httpx.URL) -> Sequence[str]:
        return []

    for egress in (refusing, none):
        with pytest.raises(Unreachable):
            await connect(Server(Kind.VLLM, "http://a"), egress=egress).healthy()


async def test_certificates_are_checked_for_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tls.certificate(tmp_path, "engine.intranet")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(files.chain, files.key)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head("200 OK"))
        writer.close()

    async def egress(_url: httpx.URL) -> Sequence[str]:
        return ["127.0.0.1"]

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=serving)
    port = listener.sockets[0].getsockname()[1]

    async def check(name: str) -> None:
        engine = connect(Server(Kind.VLLM, f"https://{name}:{port}"), egress=egress)
        try:
            await engine.healthy()
        finally:
            await engine.close()

    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        await check("engine.intranet")
    trusted = ssl.create_default_context(cafile=files.chain)
    monkeypatch.setattr(transport, "trust", lambda: trusted)
    await check("engine.intranet")
    with pytest.raises(Unreachable, match="Hostname mismatch"):
        await check("other.intranet")
    listener.close()
