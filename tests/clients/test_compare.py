"""`manage.py compare`: the same question to local models and to any OpenAI-compatible server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from chatsite.bench.target_client import base_of
from tests.support.stack import MODEL, Stack


class Peer(BaseHTTPRequestHandler):
    """A server that requires the key and streams two pieces of text without a token count."""

    asked: ClassVar[list[dict[str, object]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Peer.asked.append(body)
        allowed = self.headers["Authorization"] == "Bearer secret"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        if not allowed:
            self.wfile.write(b'{"error": {"message": "wrong key"}}')
            return
        for word in ("far ", "away"):
            chunk = {"choices": [{"delta": {"content": word}}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def peer() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_models_here_and_elsewhere_in_one_table(api_stack: Stack, peer: str) -> None:
    people = api_stack.query("SELECT count(*) FROM accounts_user")
    remote = ("--endpoint", peer, "--remote-model", "big", "--key-variable", "PEER_KEY")
    result = api_stack.manage(
        "compare", "one two three", "--json", *remote, "--system", "Be brief.", PEER_KEY="secret"
    )
    (found,) = json.loads(result.stdout)
    here, there = found["replies"]
    assert (here["model"], here["answer"], here["tokens"]) == (MODEL, "one two three", 3)
    assert here["counted"]
    assert 0 < here["ttft_ms"] <= here["total_ms"]
    assert (there["model"], there["answer"], there["tokens"]) == ("big", "far away", 2)
    assert not there["counted"]
    assert Peer.asked[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one two three"},
    ]
    table = api_stack.manage(
        "compare", "hello", *remote, "--model", MODEL, PEER_KEY="secret"
    ).stdout
    assert "first text" in table
    assert f"{MODEL} (this site)" in table
    assert "~2" in table
    assert api_stack.query("SELECT count(*) FROM accounts_user") == people


def test_a_server_that_does_not_answer_is_in_the_table(api_stack: Stack, peer: str) -> None:
    for options, reason in (
        (("--endpoint", peer, "--remote-model", "big"), "401: wrong key"),
        (("--endpoint", "http://127.0.0.1:9", "--remote-model", "big"), "connect"),
        (("--model", "absent:1b"), "404"),
    ):
        local = () if "--model" in options else ("--no-local",)
        result = api_stack.manage("compare", "x", *options, *local, check=False)
        assert result.returncode == 1
        assert reason in result.stdout
        assert "Not all models answered." in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("address", ["https://a.example", "https://a.example/v1/"])
def test_an_address_with_or_without_its_version(address: str) -> None:
    assert base_of(address) == "https://a.example/v1"
