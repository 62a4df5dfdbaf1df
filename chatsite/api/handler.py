"""The short way for API requests: Django's handler without its middlewares.

Sessions, languages and forgery tokens mean nothing to a program, and each middleware costs two
changes of thread. `http.endpoint` does what is left: the host name, and security headers. What
streams passes none of the generators that Django puts around a body: they cost more than all
else that is done here for a token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpResponseBase

from chatsite.api.http import Stream

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class ApiHandler(ASGIHandler):
    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        respond = self._get_response_async  # type: ignore[attr-defined]
        self._middleware_chain = convert_exception_to_response(respond)

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        if not isinstance(response, Stream):
            await super().send_response(response, send)
            return
        headers = [(k.encode("ascii"), v.encode("latin1")) for k, v in response.items()]
        start = {"type": "http.response.start", "status": response.status_code}
        async with aclosing(response.rest):
            await send({**start, "headers": headers})
            await send(_part(response.first))
            async for chunk in response.rest:
                await send(_part(chunk))
            await send({"type": "http.response.body"})


def _part(chunk: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": chunk, "more_body": True}
