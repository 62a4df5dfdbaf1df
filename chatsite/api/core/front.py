"""Routing before Django: which requests are API requests, and which origins may make them.

Pages of other origins get nothing unless `CHATSITE_API_ORIGINS` lists them, since a browser can
reach servers that the page's author can't. Cookies never authenticate an API request, so no
response allows credentials.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Of `rate_limits`, which can't be imported here: this module is loaded before Django's models.
_RATE_LIMITS = tuple(
    f"x-ratelimit-{what}-{unit}"
    for what in ("limit", "remaining", "reset")
    for unit in ("requests", "tokens")
)
_RUNNING = b"Ollama is running"
_REQUEST_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
_SLASHES = re.compile("/{2,}")
# OpenAI's paths as requested by clients whose base URL lacks /v1.
_BARE = {
    "/models",
    "/chat/completions",
    "/chat/completions/input_tokens",
    "/completions",
    "/embeddings",
    "/responses",
    "/responses/input_tokens",
    # llama-server and vLLM serve these without /v1.
    "/rerank",
    "/reranking",
    "/tokenize",
    "/detokenize",
}
# Paths at which other servers answer health checks.
_HEALTH = {"/health", "/v1/health"}


def request_id(scope: Scope) -> str:
    """Return the ID that a proxy or the client gave the request, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            sent = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(sent):
                return str(sent)
    return f"req_{secrets.token_hex(16)}"


def for_programs(path: str) -> bool:
    # The documentation of the API is an ordinary page.
    return f"{path}/".startswith(("/v1/", "/api/")) and path != "/v1/docs"


def is_probe(scope: Scope) -> bool:
    """Return whether a client probes `/` for Ollama; browsers ask for HTML there."""
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
    """Return the scope with a normalized path.

    Removes the slashes that clients double or append when they join a base URL and a path, and adds
    the version that their base URL lacks.
    """
    path = _SLASHES.sub("/", scope["path"]).rstrip("/")
    if path in _BARE:
        path = f"/v1{path}"
    if path in _HEALTH:
        path = "/healthz"
    return scope if path == scope["path"] else {**scope, "path": path}


def with_origins(application: Application) -> Application:
    """Add CORS: answer preflight requests, and let allowed origins read responses."""

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
                (
                    b"access-control-expose-headers",
                    b"X-Queue-Position, X-Request-ID, Retry-After, "
                    + ", ".join(_RATE_LIMITS).encode(),
                ),
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
    """Return whether scripts of pages from ``origin`` may use the API."""
    listed = settings.ENV.api_origins
    return "*" in listed or origin in listed or origin in settings.ENV.effective_origins


def _preflight(headers: dict[bytes, bytes]) -> Headers:
    """Allow every requested header; the endpoint decides what it means."""
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
