"""The web server alone, on the test run's database and Redis."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.stack import ROOT, Stack, wait_until

# A short timeout, so that tests need not wait long; it must not affect answers.
SECONDS = "1"
PING_TIMEOUT_SECONDS = 4


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self.body
        return json.loads(self.body)


@dataclass
class Web:
    """``key`` and ``cookies`` are alice's."""

    stack: Stack
    key: str
    cookies: str = ""
    open: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.stack.port))
        found.settimeout(20)
        self.open.append(found)
        return found

    def head(self, line: str, *headers: str, key: bool = True) -> bytes:
        lines = [f"{line} HTTP/1.1", f"Host: 127.0.0.1:{self.stack.port}", *headers]
        lines += [f"Authorization: Bearer {self.key}"] if key else []
        return "\r\n".join([*lines, "", ""]).encode()

    def ask(self, line: str, *headers: str, body: bytes | None = None, key: bool = True) -> Reply:
        length = [] if body is None else [f"Content-Length: {len(body)}"]
        with self.connect() as connection:
            connection.sendall(self.head(line, *headers, *length, key=key) + (body or b""))
            return reply(connection)


def reply(connection: socket.socket) -> Reply:
    response = http.client.HTTPResponse(connection)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read())


@pytest.fixture(scope="module")
def web(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    stack = Stack(
        tmp_path_factory.mktemp("web"),
        CHATSITE_REDIS_URL=redis_url,
        CHATSITE_CLIENT_HEADER_SECONDS=SECONDS,
        CHATSITE_CLIENT_BODY_SECONDS=SECONDS,
        CHATSITE_CLIENT_IDLE_SECONDS=SECONDS,
    )
    stack.prepare(None)
    stack.create_user("alice")
    key = stack.manage("apikey", "create", "alice").stdout.strip()
    with serving(stack, stack.port):
        found = Web(stack, key)
        found.cookies = stack.sign_in("alice")
        yield found


@contextlib.contextmanager
def serving(stack: Stack, port: int, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a web server on ``port`` with the settings of ``stack`` and ``env``."""
    arguments = (
        *("-b", "127.0.0.1", "-p", str(port), "-v", "0", "--websocket_timeout", "-1"),
        *("--ping-interval", "1", "--ping-timeout", str(PING_TIMEOUT_SECONDS)),
    )
    command = [
        sys.executable,
        "-m",
        "chatsite.web.daphne",
        *arguments,
        "tests.support.edge_app:application",
    ]
    settings = {**stack.env, **env}
    with (stack.data_dir / f"web-{port}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=log, stderr=log)
    try:
        wait_until(lambda: _listens(port), "web server", 60)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
