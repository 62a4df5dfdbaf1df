"""The site below a path prefix, behind proxies that keep or remove the prefix."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.actions import ask, done
from tests.support.stack import PASSWORD, Stack, free_port, wait_until

_NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location /other/ {{ return 404; }}
    location /chat/ {{
      proxy_pass http://127.0.0.1:{site}{target};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def prefixed(
    starter_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, int]]:
    """Yield a site with a prefix, and the port of a proxy that it accepts requests from."""
    port = free_port()
    stack = Stack(
        tmp_path_factory.mktemp("prefixed"),
        CHATSITE_BACKEND="scripted",
        CHATSITE_PATH_PREFIX="/chat",
        CHATSITE_ORIGINS=f"http://127.0.0.1:{port}",
        CHATSITE_TRUSTED_PROXIES="127.0.0.1",
    )
    try:
        stack.prepare(starter_model)
        stack.create_user("ann", admin=True)
        stack.start()
        yield stack, port
    finally:
        stack.discard()


@pytest.mark.parametrize("target", ["", "/"], ids=["prefix kept", "prefix removed"])
def test_t109_all_pages_work_below_a_path_prefix(
    prefixed: tuple[Stack, int], browser: Browser, tmp_path: Path, target: str
) -> None:
    stack, port = prefixed
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        pytest.skip("nginx is not installed; `make test` installs it")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        _NGINX.format(folder=tmp_path, port=port, site=stack.port, target=target)
    )
    proxy = subprocess.Popen([nginx, "-c", str(configuration)])
    context = browser.new_context(base_url=f"http://127.0.0.1:{port}", locale="en-US")
    outside: list[str] = []
    try:
        wait_until(lambda: is_listening(port), "nginx")
        page = context.new_page()
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((f"http://127.0.0.1:{port}/chat/", "data:", "blob:"))
                else outside.append(request.url)
            ),
        )
        page.goto("/chat/")
        page.get_by_label("Username").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/chat/")
        answer = ask(page, "Hello")
        done(page)
        expect(answer).to_contain_text(re.compile(r"\w"))
        expect(page).to_have_url(re.compile(r"/chat/c/[0-9a-f-]{36}/$"))
        page.reload()
        expect(page.get_by_role("article")).to_contain_text(re.compile(r"\w"))
        page.get_by_role("button", name="New chat").or_(
            page.get_by_role("link", name="New chat")
        ).first.click()
        expect(page).to_have_url(re.compile(r"/chat/$"))
        page.get_by_role("link", name="Hello").first.click()
        expect(page).to_have_url(re.compile(r"/chat/c/"))
        page.goto("/chat/admin/hosts/")
        # Arrives over the WebSocket.
        expect(
            page.get_by_text(re.compile("model memory used|models may use")).first
        ).to_be_visible()
        assert outside == []
    finally:
        context.close()
        proxy.terminate()
        proxy.wait(10)
