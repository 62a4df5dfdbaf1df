"""The short way for API requests: Django's handler without its middlewares.

Sessions, languages and forgery tokens mean nothing to a program, and each middleware costs two
changes of thread. `http.endpoint` does what is left: the host name, and security headers. Django
would also start a thread for each request to close connections there, which `in_database` does
not open. What streams passes none of the generators that Django puts around a body: they cost
more than all else that is done here for a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, closing
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.db import close_old_connections
from django.http import HttpResponseBase

from chatsite.api.http import Stream

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class ApiHandler(ASGIHandler):
    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        respond = self._get_response_async  # type: ignore[attr-defined]
        self._middleware_chain = convert_exception_to_response(respond)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext() as context:
            try:
                await self.handle(scope, receive, send)
            finally:
                if context in SyncToAsync.context_to_thread_executor:
                    await sync_to_async(close_old_connections)()

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """A client that leaves before the end has the answering cancelled."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with closing(body):
            request, refusal = self.create_request(scope, body)
            if request is None:
                if refusal is not None:
                    await self.send_response(refusal, send)
                return
            leaving = asyncio.create_task(self.listen_for_disconnect(receive))
            answering = asyncio.create_task(self._answer(request, send))
            try:
                await asyncio.wait((leaving, answering), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                answering.cancel()
                await asyncio.gather(leaving, answering, return_exceptions=True)
            if not answering.cancelled():
                answering.result()

    async def _answer(self, request: ASGIRequest, send: Send) -> None:
        await self.send_response(await self.run_get_response(request), send)

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
