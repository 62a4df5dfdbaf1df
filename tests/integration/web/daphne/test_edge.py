"""What a single client may do to the web server, and how the server responds."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zstandard
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.typing import Origin

from tests.integration.web.daphne.conftest import PING_TIMEOUT_SECONDS, Reply, Web, reply

# Decoded completely: the model is looked up last.
CHAT = json.dumps({"model": "none", "messages": [{"role": "user", "content": "hi"}]}).encode()
BOTH = ["/v1/chat/completions", "/api/chat"]
DIGEST = "sha256:" + "a" * 64


def is_decoded(answer: Reply) -> bool:
    return (answer.status == 404 and "none" in str(answer.json)) or "installed" in str(answer.json)


# M2: bodies.


@pytest.mark.parametrize("length", ["Content-Length: 31000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("headers", [[], ["Authorization: Bearer cs-wrong"], ["X-Api-Key: x"]])
@pytest.mark.parametrize("path", [*BOTH, "/v1/embeddings", "/api/create", f"/api/blobs/{DIGEST}"])
def test_m2_unauthenticated_clients_are_refused_before_their_body(
    web: Web, path: str, headers: list[str], length: str
) -> None:
    with web.connect() as connection:
        connection.sendall(web.head(f"POST {path}", length, *headers, key=False))
        answer = reply(connection)
    assert answer.status == 401
    assert "error" in answer.json


def test_m2_the_refusal_reaches_a_client_that_writes_first(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(
            web.head("POST /v1/chat/completions", "Content-Length: 9000000", key=False)
        )
        for _ in range(9):
            connection.sendall(bytes(1_000_000))
        assert reply(connection).status == 401
        connection.sendall(web.head("GET /v1/models"))
        assert reply(connection).status == 200, "the connection stays open"


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("POST /accounts/login/", ["Content-Length: 9000000"], 413),
        ("POST /accounts/login/", ["Content-Length: 900000"], 401),
        ("POST /accounts/login/", ["Transfer-Encoding: chunked"], 401),
        ("POST /chat/import/", ["Content-Length: 9000000"], 401),
        ("POST /chat/import/", ["Content-Length: 90000000"], 413),
        ("POST /nowhere/", ["Content-Length: 90000"], 413),
        ("PUT /v1/models", ["Content-Length: 900000000000"], 405),
    ],
)
def test_m2_other_paths_accept_little_from_unauthenticated_clients(
    web: Web, line: str, headers: list[str], status: int
) -> None:
    with web.connect() as connection:
        connection.sendall(web.head(line, *headers))
        answer = reply(connection)
    assert answer.status == status
    assert answer.json["error"]["message"]


def test_m2_signed_in_users_send_what_their_page_sends(web: Web) -> None:
    token = next(one.partition("=")[2] for one in web.cookies.split("; ") if "csrf" in one)
    headers = [f"Cookie: {web.cookies}", f"X-CSRFToken: {token}", "Content-Type: application/json"]
    chats = json.dumps([{"title": "x" * 3_000_000}]).encode()
    answer = web.ask("POST /chat/import/", *headers, body=chats, key=False)
    assert (answer.status, answer.json["taken"]) == (200, 0)
    deep = b"[" * 100_000
    answer = web.ask("POST /chat/import/", *headers, body=deep, key=False)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
    many = b"[" + b"1," * 3_000_000 + b"1]"
    answer = web.ask("POST /chat/import/", *headers, body=many, key=False)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
    answer = web.ask("POST /chat/folders/", *headers, body=deep[:60_000], key=False)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")


def test_m2_a_client_that_expects_100_continue_is_answered_before_it_sends(web: Web) -> None:
    head = f"Content-Length: {len(CHAT)}", "Expect: 100-continue"
    with web.connect() as connection:
        connection.sendall(web.head("POST /v1/chat/completions", *head, key=False))
        assert connection.recv(12) == b"HTTP/1.1 401"
    with web.connect() as connection:
        connection.sendall(web.head("POST /v1/chat/completions", *head))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(CHAT)
        assert is_decoded(reply(connection))


# T21: what HTTP allows.


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", gzip.compress(CHAT), 404),
        ("deflate", zlib.compress(CHAT), 404),
        ("zstd", zstandard.compress(CHAT), 404),
        ("identity", CHAT, 404),
        ("br", CHAT, 415),
        ("gzip, gzip", CHAT, 415),
        ("gzip", CHAT, 400),
        ("zstd", zstandard.compress(CHAT)[:-4], 400),
        ("gzip", gzip.compress(bytes(33 << 20)), 413),
        ("zstd", zstandard.compress(bytes(33 << 20)), 413),
    ],
)
def test_t21_d11_encoded_bodies(web: Web, path: str, coding: str, body: bytes, status: int) -> None:
    answer = web.ask(f"POST {path}", f"Content-Encoding: {coding}", body=body)
    assert answer.status == status
    assert "error" in answer.json


def test_t21_equivalent_requests(web: Web) -> None:
    chunks = f"{len(CHAT):x};name=value\r\n".encode() + CHAT + b"\r\n0\r\nTrailer: x\r\n\r\n"
    with web.connect() as connection:
        connection.sendall(web.head("POST /api/chat", "Transfer-Encoding: chunked") + chunks)
        assert is_decoded(reply(connection))
    assert is_decoded(web.ask("POST /api/chat", body=b"\xef\xbb\xbf" + CHAT))
    upgrade = "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    assert is_decoded(web.ask("POST /api/chat", *upgrade, body=CHAT))
    assert web.ask("GET /v1/models", f"api-key: {web.key}", key=False).status == 200
    assert web.ask("GET /v1/models", "api-key: wrong", key=False).status == 401


def test_t21_absolute_request_targets(web: Web) -> None:
    here = f"http://127.0.0.1:{web.stack.port}"
    assert web.ask(f"GET {here}/v1/models?x=1").status == 200
    assert web.ask(f"GET {here}").status == 200
    assert is_decoded(web.ask(f"POST {here}/api/chat", body=CHAT))
    foreign = web.ask("GET http://elsewhere.example/v1/models")
    assert (foreign.status, foreign.json["error"]["code"]) == (400, "unknown_host")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        *("/v1", "/v1/", "/v1/nope", "/api", "/api/", "/api/nope", "//v1//nope//"),
        *("/props", "/completion", "/classify", "/infill"),
        *("/slots", "/v2/models", "/openai/deployments/x/chat/completions", "/v1beta/models"),
    ],
)
def test_t21_api_clients_get_json_for_unknown_paths(web: Web, path: str, method: str) -> None:
    body = b"{}" if method == "POST" else None
    answer = web.ask(f"{method} {path}", "Accept: */*", body=body, key=False)
    assert answer.status == 404
    assert "Unknown URL" in str(answer.json["error"])
    assert "set-cookie" not in answer.headers


def test_t21_browsers_get_a_page_for_unknown_paths(web: Web) -> None:
    answer = web.ask("GET /nowhere", "Accept: text/html,*/*;q=0.8", key=False)
    assert answer.status == 404
    assert b"<html" in answer.body


@pytest.mark.parametrize(
    "head",
    [
        "GET /v1/models HTTP/1.1\r\nX: {long}",
        "GET /v1/models?{long} HTTP/1.1\r\nHost: x",
        "GET /v1/models HTTP/1.1\r\nX: " + "a" * 900 + "\r\n" + ("Y: " + "b" * 900 + "\r\n") * 60,
    ],
)
def test_t21_headers_that_are_too_large_are_refused_with_an_explanation(
    web: Web, head: str
) -> None:
    with web.connect() as connection:
        connection.sendall(head.replace("{long}", "a" * 70_000).encode() + b"\r\n\r\n")
        answer = reply(connection)
        assert answer.status == 431
        assert "Send fewer or shorter ones" in str(answer.json)
        assert connection.recv(1) == b""


# Low: bad input.


def _bodies() -> dict[str, bytes]:
    deep = {f"deep {n}": b"[" * n + b"]" * n for n in (101, 500, 970, 990, 1000, 50_000)}
    values: dict[str, bytes] = {
        **deep,
        "digits": b"9" * 5000,
        "infinite": b"1e999",
        "wrong utf-8": b'"\xff"',
        "surrogate": b'"\\ud800"',
        "bits": b"1" * 40,
        "marks": json.dumps(" - at `$" * 30_000).encode(),
    }
    fields = ("model", "messages", "format", "options", "keep_alive", "tools", "seed", "stop")
    found = {
        f"{field} {name}": CHAT[:-1] + b', "%b": %b}' % (field.encode(), value)
        for field in fields
        for name, value in values.items()
    }
    return {**found, "empty": b"", "nothing": b"\0", "text": b"hello", "list": b"[]", **deep}


@pytest.mark.parametrize("path", [*BOTH, "/v1/completions", "/api/generate", "/api/embed"])
def test_low_t01_any_body_is_answered_in_json_and_never_500(web: Web, path: str) -> None:
    for name, body in _bodies().items():
        answer = web.ask(f"POST {path}", body=body)
        assert answer.status in {400, 404}, (name, answer.body[:300])
        assert "error" in answer.json, name
        assert len(answer.body) < 5000, name


def test_low_odd_paths_are_answered_in_json(web: Web) -> None:
    for path in ("/v1/models/%ff%fe", "/v1/models/a%00b", "/v1/%2e%2e/%2e%2e", "/api/blobs/%ff"):
        answer = web.ask(f"GET {path}")
        assert answer.status in {400, 404, 405}, path
        assert "error" in answer.json


# Slow clients.


def until_closed(connection: socket.socket, dribble: bytes = b"") -> bytes:
    """Return what arrives until the server closes, sending ``dribble`` repeatedly."""
    came = b""
    connection.settimeout(0.3)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if dribble:
                connection.sendall(dribble[:1])
                dribble = dribble[1:] + dribble[:1]
            part = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return came
        if not part:
            return came
        came += part
    raise AssertionError(f"still open: {came!r}")


def test_slow_headers_end_the_connection(web: Web) -> None:
    with web.connect() as silent:
        assert until_closed(silent) == b""
    with web.connect() as slow:
        slow.sendall(b"GET /v1/models HTTP/1.1\r\nX: ")
        assert until_closed(slow, b"a").startswith(b"HTTP/1.1 408 ")


def test_slow_bodies_are_refused_with_an_explanation(web: Web) -> None:
    """Their connections also end, shortly after the response; all are awaited together."""
    begun = {
        **{path: web.head(f"POST {path}", "Content-Length: 5000") + CHAT[:10] for path in BOTH},
        "/accounts/login/": web.head("POST /accounts/login/", "Content-Length: 500") + b"login=",
    }

    def answer(path: str) -> bytes:
        with web.connect() as slow:
            slow.sendall(begun[path])
            return until_closed(slow, b" ")

    with ThreadPoolExecutor() as threads:
        answers = dict(zip(begun, threads.map(answer, begun), strict=True))
    for path, came in answers.items():
        assert b"did not arrive in time" in came, path
    assert all(answers[path].startswith(b"HTTP/1.1 408 ") for path in BOTH)


def test_idle_connections_end_and_answers_may_take_longer(web: Web) -> None:
    with web.connect() as connection:
        for _ in range(2):
            began = time.monotonic()
            connection.sendall(web.head("GET /v1/models"))
            assert reply(connection).status == 200
        assert until_closed(connection) == b""
        assert time.monotonic() - began > 0.5
    with web.connect() as connection:
        connection.sendall(web.head("GET /parts?20"))
        assert reply(connection).body == b"part " * 20 + b"end"


# M1: sockets.


class _Pinged(ClientConnection):
    """A client that answers pings, as browsers do, and records their times."""

    pinged: list[float]

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pinged = [*getattr(self, "pinged", []), time.monotonic()]
        super().process_event(event)


def _socket(web: Web, **options: Any) -> Any:
    address = web.stack.url.replace("http", "ws") + "/ws/chat/"
    headers = {"Cookie": web.cookies}
    return connect(
        address, origin=Origin(web.stack.url), additional_headers=headers, proxy=None, **options
    )


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        '{"type": "send", "id": "x"}',
        '{"type": "stop", "id": "x", "generation": "00000000-0000-0000-0000-000000000000"}',
    ],
)
async def test_m1_a_client_that_sends_garbage_is_disconnected(web: Web, frame: str) -> None:
    answers = 0
    async with _socket(web) as socket:
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012  (whichever meets it)
            for _ in range(5000):
                await socket.send(frame)
            while True:
                await asyncio.wait_for(socket.recv(), 30)
                answers += 1
        while True:
            try:
                await asyncio.wait_for(socket.recv(), 30)
                answers += 1
            except ConnectionClosed:
                break
    assert caught.value.rcvd is None or caught.value.rcvd.code == 1008
    assert answers < 2500, "each second allows 20 commands, however slow the machine is"


async def test_m1_acknowledgements_have_a_bound(web: Web) -> None:
    ack = '{"type": "ack", "generation": "00000000-0000-0000-0000-000000000000", "cursor": 1}'
    async with _socket(web) as socket:
        for _ in range(500):
            await socket.send(ack)
        await socket.send("{")
        assert json.loads(await asyncio.wait_for(socket.recv(), 30))["type"] == "error"
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012
            for _ in range(50_000):
                await socket.send(ack)
            await asyncio.wait_for(socket.recv(), 30)
    assert caught.value.rcvd is None or caught.value.rcvd.code == 1008


async def test_m1_the_sockets_of_one_user_have_a_bound(web: Web) -> None:
    sockets = [await _socket(web) for _ in range(101)]
    try:
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(sockets[-1].recv(), 30)
        assert caught.value.rcvd
        assert caught.value.rcvd.code == 1013
        await sockets[0].send("{")
        assert json.loads(await asyncio.wait_for(sockets[0].recv(), 30))["type"] == "error"
    finally:
        await asyncio.gather(*(one.close() for one in sockets))


# Silent sockets.


async def test_an_idle_socket_stays_open_while_its_client_answers_pings(web: Web) -> None:
    async with _socket(web, create_connection=_Pinged, ping_interval=None) as socket:
        opened = time.monotonic()
        async with asyncio.timeout(60):
            while not (
                getattr(socket, "pinged", []) and socket.pinged[-1] - opened > PING_TIMEOUT_SECONDS
            ):
                await asyncio.sleep(0.1)
        await socket.send("{")
        assert json.loads(await asyncio.wait_for(socket.recv(), 30))["type"] == "error"


def test_a_socket_whose_client_answers_no_pings_is_closed(web: Web) -> None:
    """For example that of a sleeping laptop: nothing else would end it."""
    handshake = web.head(
        "GET /ws/chat/",
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Origin: {web.stack.url}"),
        f"Cookie: {web.cookies}",
        key=False,
    )
    with web.connect() as silent:
        silent.sendall(handshake)
        came = until_closed(silent)
    assert came.startswith(b"HTTP/1.1 101 ")
    assert came.partition(b"\r\n\r\n")[2].startswith(b"\x89"), "it is pinged first"
