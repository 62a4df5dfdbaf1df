"""The whole product without a network: `python -m tests.faults.offline`.

Runs the product, once with llama.cpp and once with scripted answers, and a browser in a network
namespace that has only loopback. strace records the
system calls of all processes of the product that could begin traffic, so also attempts that fail,
and DNS lookups. The browser's requests are recorded by Playwright, and what its content policy
refused by the page. Needs Linux, strace, util-linux, iproute2 and Chromium; about two minutes.

The exit code is 1 if anything tried to leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Page, Request, sync_playwright

from chatsite.bench.chat_client import ChatClient
from tests.support.stack import MODEL, PASSWORD, ROOT, Stack
from tests.support.traffic import TRACED, attempts, leaving

_INSIDE: Final = "CHATSITE_TEST_INSIDE"
# Longer than the period of the jobs that beat starts most often; hourly ones are not waited for.
_IDLE_SECONDS: Final = 65
# An answer that would fetch from elsewhere if the page trusted it.
_HOSTILE: Final = (
    "@say ![p](https://tracker.example/p.png) <img src='https://tracker.example/i.png'>"
    " [link](https://tracker.example/) <script src='https://tracker.example/s.js'></script>"
)
_ADMIN_PAGES: Final = tuple(
    f"/admin/{name}"
    for name in ("", "catalogue/", "jobs/", "hosts/", "people/", "usage/", "audit/", "settings/")
)


class TracedStack(Stack):
    """A product whose processes are all traced into ``log_file``."""

    def __init__(self, data_dir: Path, log_file: Path, **env: str) -> None:
        super().__init__(data_dir, **env)
        self.wrapper = (
            *("strace", "-f", "-qq", "--seccomp-bpf", "-s", "64"),
            *("-e", f"trace={TRACED}", "-o", str(log_file)),
        )

    def stop(self) -> None:
        """End the product in order; strace, its parent, blocks the signals of a terminal."""
        if self.process is not None:
            self.family()[0].send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.discard()


def main() -> int:
    if os.environ.get(_INSIDE):
        print(json.dumps(_inside(), indent=2))
        return 0
    missing = [name for name in ("strace", "unshare", "ip", "chromium") if not shutil.which(name)]
    if missing:
        print(f"Not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    result = subprocess.run(
        [
            *("unshare", "--net", *user, "sh", "-c"),
            f"ip link set lo up && exec {sys.executable} -m tests.faults.offline",
        ],
        env={**os.environ, _INSIDE: "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(result.stdout)
    if result.returncode:
        return 2
    reports = json.loads(result.stdout)
    return int(any(one["left"] or one["requests_elsewhere"] for one in reports.values()))


def _inside() -> dict[str, Any]:
    for line in _output("ip", "-o", "link").splitlines():
        assert " lo: " in line or "state UP" not in line, f"there is a network: {line}"
    return {backend: _run(backend) for backend in ("llama", "scripted")}


def _run(backend: str) -> dict[str, Any]:
    """Run the product with a backend and use it; return what was recorded."""
    requests: list[str] = []
    refused: list[str] = []
    with tempfile.TemporaryDirectory(prefix="chatsite-offline-") as folder:
        log_file = Path(folder) / "strace.log"
        stack = TracedStack(Path(folder) / "data", log_file, CHATSITE_BACKEND=backend)
        stack.fill(_model())
        stack.create_user("ann")
        stack.create_user("root", admin=True)
        began = time.monotonic()
        stack.start()
        try:
            asyncio.run(_programs(stack, backend))
            if backend == "scripted":
                requests, refused = _browser(stack)
            else:
                _wait(began + _IDLE_SECONDS)
        finally:
            stack.stop()
        lines = log_file.read_text(errors="replace").splitlines()
    found = attempts(lines)
    return {
        "seconds": round(time.monotonic() - began),
        "system_calls": len(lines),
        "processes": len({line.split()[0] for line in lines}),
        "attempts_within": len([one for one in found if not one.why]),
        "left": [vars(one) for one in leaving(found)],
        "browser_requests": len(requests),
        "requests_elsewhere": [url for url in requests if not _own(url, stack.port)],
        "refused_by_content_policy": refused,
    }


def _model() -> Path:
    """Return the starter model, as the tests find it."""
    return Path(os.environ.get("CHATSITE_TEST_MODEL") or ROOT / "build/starter/smollm2-135m.gguf")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _wait(until: float) -> None:
    """Leave the product alone, so that the jobs that it starts by itself run."""
    time.sleep(max(0.0, until - time.monotonic()))


async def _programs(stack: Stack, backend: str) -> None:
    """Chat over the page's socket, use the API, ask for health and metrics."""
    async with ChatClient(stack.url, stack.sign_in("ann")) as client:
        # The last one fails, where answers are scripted.
        for text in ("hello there", "a word", *(["@fail"] if backend == "scripted" else [])):
            answer = await client.ask(text, model=MODEL, max_tokens=20)
            async with asyncio.timeout(120):
                await answer.ended.wait()
    key = stack.manage("apikey", "create", "ann").stdout.split()[-1]
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=120) as client:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
        for response in (
            await client.post("/v1/chat/completions", json=body),
            await client.get("/v1/models"),
            await client.get("/healthz"),
            await client.get("/metrics"),
            await client.get("/api/tags"),
        ):
            response.raise_for_status()
        # Traced processes may be too slow for these.
        await client.get("/healthz/queue")
        await client.get("/healthz/celery")


def _browser(stack: Stack) -> tuple[list[str], list[str]]:
    """Use the page; return the addresses of all requests, and what the content policy refused."""
    requests: list[str] = []
    refused: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(base_url=stack.url, locale="en-US")

        def note(request: Request) -> None:
            requests.append(request.url)

        page.on("request", note)
        page.on("websocket", lambda socket: requests.append(socket.url))
        page.on(
            "console",
            lambda message: (
                refused.append(message.text) if "Content Security Policy" in message.text else None
            ),
        )
        _sign_in(page, "root")
        box = page.get_by_role("textbox", name="Message")
        for text in ("hello", _HOSTILE):
            box.fill(text)
            box.press("Enter")
            page.get_by_role("button", name="Send").wait_for()
            page.wait_for_timeout(500)
        for path in _ADMIN_PAGES:
            response = page.goto(path)
            assert response is not None
            assert response.status == 200, path
            page.wait_for_timeout(500)
        browser.close()
    return requests, refused


def _sign_in(page: Page, name: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


def _own(url: str, port: int) -> bool:
    parts = urlsplit(url)
    if parts.scheme in {"data", "blob"}:
        return True
    return parts.hostname == "127.0.0.1" and parts.port == port


if __name__ == "__main__":
    sys.exit(main())
