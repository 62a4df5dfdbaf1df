"""What may be downloaded from outside, and which redirects are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from models_admin.sources import egress, fetch

LIMIT = 1 << 16


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str | None]]
    location: str
    ended: threading.Event

    def do_GET(self) -> None:
        type(self).seen.append((self.headers["Host"], self.headers["Authorization"]))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", type(self).location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            with suppress(ConnectionError):
                while not type(self).ended.wait(0.01):
                    self.wfile.write(b"x")
            return
        self.send_response(200)
        self.send_header("Content-Length", "100000" if self.path == "/short" else "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator:
    servers = []

    def start() -> tuple[str, type[Handler]]:
        handler = type("Own", (Handler,), {"seen": [], "location": "", "ended": threading.Event()})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append((server, vars(handler)["ended"]))
        return f"http://127.0.0.1:{server.server_port}", handler

    yield start
    for server, ended in servers:
        ended.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def allow(settings):
    def set_to(**values: object) -> None:
        settings.ENV = settings.ENV.model_copy(update=values)

    return set_to


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "::1", "fe80::1%eth0", "fd00:ec2::254", "::"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
    ],
)
def test_addresses_inside_are_not_public(address):
    assert not egress.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_outside_are(address):
    assert egress.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://huggingface.co/x",
        "https://huggingface.co:8443/x",
        "file:///etc/passwd",
        "https://evil.example/x",
        "https://huggingface.co.evil.example/x",
        "https://evilhf.co/x",
        "https://me:secret@huggingface.co/x",
        "https://huggingface.co@evil.example/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "not an address",
        "https://",
    ],
)
def test_an_unlisted_host_is_refused_and_logged(url, caplog):
    with pytest.raises(egress.FetchRefused):
        fetch.read(url, limit=LIMIT)
    (logged,) = [one for one in caplog.records if one.msg == "Outgoing request refused"]
    assert "secret" not in str(vars(logged)["error"])


def test_a_listed_name_with_an_internal_address_is_refused(allow):
    allow(download_hosts=("localhost",))
    with pytest.raises(egress.FetchRefused, match="inside this network"):
        fetch.read("https://localhost/x", limit=LIMIT)


def test_a_configured_server_is_trusted_and_keeps_its_name(serve, allow):
    base, handler = serve()
    named = base.replace("127.0.0.1", "localhost")
    allow(hf_endpoint=named)
    reply, body = fetch.read(f"{named}/x", limit=LIMIT, token="t")
    assert (reply.status, body) == (200, b"hello")
    assert handler.seen == [(named.removeprefix("http://"), "Bearer t")]


def test_a_token_does_not_go_to_another_origin(serve, allow):
    (base, first), (other, second) = serve(), serve()
    allow(hf_endpoint=base, ollama_registry=other)
    first.location = f"{other}/x"
    reply, _body = fetch.read(f"{base}/away", limit=LIMIT, token="t")
    assert reply.url == f"{other}/x"
    assert first.seen[0][1] == "Bearer t"
    assert second.seen[0][1] is None


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "https://evil.example/",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
    ],
)
def test_every_redirect_is_checked(serve, allow, location):
    base, handler = serve()
    allow(hf_endpoint=base)
    handler.location = location
    with pytest.raises(egress.FetchRefused):
        fetch.read(f"{base}/away", limit=LIMIT)


def test_redirects_in_a_circle_end(serve, allow):
    base, handler = serve()
    allow(hf_endpoint=base)
    handler.location = "/away"
    with pytest.raises(egress.FetchRefused, match="Too many redirects"):
        fetch.read(f"{base}/away", limit=LIMIT)
    assert len(handler.seen) == 6


def test_too_much_and_too_little_content_are_errors(serve, allow):
    base, _handler = serve()
    allow(hf_endpoint=base)
    with pytest.raises(egress.FetchRefused, match="too large"):
        fetch.read(f"{base}/x", limit=3)
    with pytest.raises(egress.FetchFailed):
        fetch.read(f"{base}/short", limit=LIMIT)


def test_proxies_of_the_environment_are_ignored(serve, allow, monkeypatch):
    base, _handler = serve()
    allow(hf_endpoint=base)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    reply, _body = fetch.read(f"{base}/x", limit=LIMIT)
    assert reply.status == 200


def test_a_server_that_never_stalls_and_never_ends_is_left_at_the_deadline(serve, allow):
    base, _handler = serve()
    allow(hf_endpoint=base)
    with pytest.raises(egress.FetchFailed):
        fetch.read(f"{base}/drip", limit=LIMIT, seconds=0.2)
