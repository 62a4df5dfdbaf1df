"""Before Django: which requests are programs', and which pages' scripts may make them.

Pages of other origins get nothing unless `CHATSITE_API_ORIGINS` lists them, since a browser
reaches servers that its page's author can't. Cookies never count here, so no answer allows them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_RUNNING = b"Ollama is running"
_SLASHES = re.compile("/{2,}")
# OpenAI's addresses as they come from clients that were told none with /v1 at its end.
_BARE = {"/models", "/chat/completions", "/completions", "/embeddings", "/responses"}


def for_programs(path: str) -> bool:
    # The page about the API is a page like any other.
    return f"{path}/".startswith(("/v1/", "/api/")) and path != "/v1/docs"


def is_probe(scope: Scope) -> bool:
    """Whether a program asks `/` if Ollama runs here: people's browsers ask for HTML there."""
    if scope["path"] != "/" or scope["method"] not in {"GET", "HEAD"}:
        return False
    headers = dict(scope["headers"])
    return b"text/html" not in headers.get(b"accept", b"") and b"cookie" not in headers


async def answer_probe(scope: Scope, send: Send) -> None:
    body = b"" if scope["method"] == "HEAD" else _RUNNING
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    headers.append((b"content-length", str(len(_RUNNING)).encode()))
    await _answer(send, 200, headers, body)


def tidy(scope: Scope) -> Scope:
    """Without the slashes that clients double or add when they join an address and a path, and
    with the version that their address lacks."""
    path = _SLASHES.sub("/", scope["path"]).rstrip("/")
    if path in _BARE:
        path = f"/v1{path}"
    return scope if path == scope["path"] else {**scope, "path": path}


def with_origins(application: Application) -> Application:
    """Answers browsers' questions about other origins (CORS), and lets the allowed ones read."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None:
            await application(scope, receive, send)
            return
        allowed = may_read(origin.decode("latin-1"))
        shared: Headers = [(b"vary", b"Origin")]
        if allowed:
            shared += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", b"X-Queue-Position, Retry-After"),
            ]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _answer(send, 204, shared + (_preflight(headers) if allowed else []), b"")
            return

        async def sending(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *shared]}
            await send(message)

        await application(scope, receive, sending)

    return wrapped


def may_read(origin: str) -> bool:
    """Whether scripts of pages from ``origin`` may use the API."""
    listed = settings.ENV.api_origins
    return "*" in listed or origin in listed or origin in settings.ENV.effective_origins


def _preflight(headers: dict[bytes, bytes]) -> Headers:
    """Whatever a client sends may come along: what it means is decided by the endpoint."""
    wanted = headers.get(b"access-control-request-headers", b"Authorization, Content-Type")
    answer = [
        (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
        (b"access-control-allow-headers", wanted),
        (b"access-control-max-age", b"7200"),
    ]
    if b"access-control-request-private-network" in headers:
        answer.append((b"access-control-allow-private-network", b"true"))
    return answer


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
