"""The site plus one URL whose body arrives in pieces every 0.2 s, as answers do."""

from __future__ import annotations

import asyncio
from typing import Any

from chatsite.web.asgi import application as site


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope.get("path") != "/parts":
        await site(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(scope["query_string"])):
        await send({"type": "http.response.body", "body": b"part ", "more_body": True})
        await asyncio.sleep(0.2)
    await send({"type": "http.response.body", "body": b"end"})
