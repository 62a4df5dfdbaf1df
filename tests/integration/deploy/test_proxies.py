"""The product behind nginx and Caddy with the configurations of `deploy/proxy`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from chatsite.accounts.keys import ALL_SCOPES
from tests.support.stack import PASSWORD, ROOT, Stack, free_port, wait_until
from tests.support.tls import Certificate, certificate

pytestmark = pytest.mark.stack

HOST = "chat.example.org"
ORIGIN = f"https://{HOST}"
# More than the 1 MiB that nginx takes by default.
UPLOAD = bytes(range(256)) * 12288
_NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  {example}
}}
"""
_CADDY = """
{{
  admin off
  http_port {plain}
  https_port {secure}
  storage file_system {folder}
  skip_install_trust
}}
{example}
"""


@dataclass(frozen=True)
class Proxy:
    """A running proxy: its ports, and the certificate that it shows."""

    plain: int
    secure: int
    shown: Certificate

    def client(self, **headers: str) -> httpx.Client:
        """Return a client to which the proxy is `ORIGIN`."""
        trust = ssl.create_default_context(cafile=str(self.shown.chain))

        def name_server(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = HOST

        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.secure}",
            verify=trust,
            trust_env=False,
            timeout=60,
            headers={"Host": HOST, "Origin": ORIGIN, "Referer": f"{ORIGIN}/", **headers},
            event_hooks={"request": [name_server]},
        )


@pytest.fixture(scope="module")
def site(starter_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("site"),
        CHATSITE_BACKEND="scripted",
        CHATSITE_ORIGINS=ORIGIN,
        CHATSITE_TRUSTED_PROXIES="127.0.0.1",
    )
    try:
        stack.prepare(starter_model)
        stack.create_user("ann", admin=True)
        stack.start()
        yield stack
    finally:
        stack.discard()


@pytest.fixture(scope="module")
def key(site: Stack) -> str:
    return site.manage("apikey", "create", "ann", "--scopes", ",".join(ALL_SCOPES)).stdout.split()[
        -1
    ]


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed; `make test` installs it")
    return path


def _nginx(folder: Path, proxy: Proxy, site: Stack) -> list[str]:
    example = (ROOT / "deploy/proxy/nginx.conf").read_text()
    for there, here in {
        "listen 80;": f"listen 127.0.0.1:{proxy.plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{proxy.secure} ssl;",
        "127.0.0.1:8000;": f"127.0.0.1:{site.port};",
        f"/etc/ssl/{HOST}.pem": str(proxy.shown.chain),
        f"/etc/ssl/private/{HOST}.key": str(proxy.shown.key),
    }.items():
        assert there in example
        example = example.replace(there, here)
    path = folder / "nginx.conf"
    path.write_text(_NGINX.format(folder=folder, example=example))
    return [_program("nginx"), "-c", str(path)]


def _caddy(folder: Path, proxy: Proxy, site: Stack) -> list[str]:
    example = (ROOT / "deploy/proxy/Caddyfile").read_text()
    for there, here in {
        f"#tls /etc/ssl/{HOST}.pem /etc/ssl/private/{HOST}.key": (
            f"tls {proxy.shown.chain} {proxy.shown.key}"
        ),
        "\treverse_proxy 127.0.0.1:8000\n}": f"\treverse_proxy 127.0.0.1:{site.port}\n}}",
    }.items():
        assert there in example
        example = example.replace(there, here)
    path = folder / "Caddyfile"
    path.write_text(
        _CADDY.format(folder=folder, plain=proxy.plain, secure=proxy.secure, example=example)
    )
    return [_program("caddy"), "run", "--config", str(path), "--adapter", "caddyfile"]


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest, site: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp(request.param)
    proxy = Proxy(free_port(), free_port(), certificate(folder, HOST))
    command = {"nginx": _nginx, "caddy": _caddy}[request.param](folder, proxy, site)
    process = subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
    )
    try:
        wait_until(lambda: _listens(proxy.secure), f"{request.param} listens")
        yield proxy
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_plain_requests_are_sent_to_https(proxy: Proxy) -> None:
    response = httpx.get(
        f"http://127.0.0.1:{proxy.plain}/c/1/", headers={"Host": HOST}, trust_env=False
    )
    assert response.status_code in {301, 308}
    assert response.headers["Location"] == f"{ORIGIN}/c/1/"


async def test_sign_in_and_the_socket_work(proxy: Proxy) -> None:
    with proxy.client() as client:
        page = client.get("/accounts/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token
        form = {"login": "ann", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        answer = client.post("/accounts/login/", data=form)
        assert answer.status_code == 302, answer.text
        cookies = client.cookies
        assert any(name.startswith("__Host-") for name in cookies)
        assert "max-age" in client.get("/").headers["Strict-Transport-Security"]
    async with connect(
        f"wss://{HOST}/ws/chat/",
        host="127.0.0.1",
        port=proxy.secure,
        ssl=ssl.create_default_context(cafile=str(proxy.shown.chain)),
        origin=ORIGIN,  # type: ignore[arg-type]
        additional_headers={"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())},
        proxy=None,
    ) as channel:
        # A command that the server must refuse, so that it has to answer.
        await channel.send("{}")
        assert json.loads(await channel.recv())["type"] == "error"
        await (await channel.ping())


def test_a_stream_arrives_piece_by_piece(proxy: Proxy, key: str) -> None:
    """A proxy that collects the stream would hold the first word until the last one."""
    body = {
        "model": "smollm2:135m",
        "stream": True,
        "messages": [{"role": "user", "content": "@tokens 4 @delay-ms 3000"}],
    }
    received = b""
    with (
        proxy.client(Authorization=f"Bearer {key}") as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        assert response.status_code == 200
        for piece in response.iter_raw():
            received += piece
            if b"w1" in received:
                break
    assert b"w1" in received
    assert b"w4" not in received
    assert b"[DONE]" not in received


def test_files_larger_than_the_proxys_default_are_uploaded(proxy: Proxy, key: str) -> None:
    content = UPLOAD + str(proxy.secure).encode()  # a new file for each proxy
    digest = hashlib.sha256(content).hexdigest()
    with proxy.client(Authorization=f"Bearer {key}") as client:
        assert client.post(f"/api/blobs/sha256:{digest}", content=content).status_code == 201


def test_metrics_are_internal(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/healthz").status_code == 200
