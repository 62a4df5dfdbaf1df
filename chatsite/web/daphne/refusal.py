"""Refusals sent before any view is called, in the format that the client expects."""

from __future__ import annotations

import json
import secrets
from typing import Any

from chatsite.api.core import front, http
from chatsite.api.ollama import common
from chatsite.errors import ChatsiteError


async def answer(path: str, error: ChatsiteError, send: Any) -> None:
    headers, body = parts(path, error)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def parts(path: str, error: ChatsiteError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body."""
    if front.for_programs(path):
        response = (common if f"{path}/".startswith("/api/") else http).refusal(error)
        response["X-Request-ID"] = f"req_{secrets.token_hex(16)}"
        items, content = response.items(), response.content
    else:
        items = {"Content-Type": "application/json", "Cache-Control": "no-store"}.items()
        content = json.dumps({"error": error.as_dict()}).encode()
    found = [(name.lower().encode(), value.encode()) for name, value in items]
    return [*found, (b"content-length", b"%d" % len(content))], content
