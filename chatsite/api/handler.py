"""The fast path for API requests: Django's handler without its middleware.

API clients need no sessions, languages or CSRF tokens, and each middleware costs two thread
switches. `http.endpoint` does what remains: it checks the host name and sets security headers.
Django would also start a thread for each request to close connections there, which `in_database`
does not open. Streams bypass the generators that Django wraps around a body: they cost more than
everything else done here for a token.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, closing
from typing import IO, Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core.exceptions import RequestAborted, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.db import close_old_connections
from django.http import Http404, HttpResponseBase

from chatsite import logs, tracing
from chatsite.api.core import front, http
from chatsite.api.core.http import Stream
from chatsite.api.ollama import common
from chatsite.errors import BadRequest, ChatsiteError

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

# Private names of Django and asgiref that are used, and why; see `chatsite.supported`.
PRIVATE_NAMES: Final = {
    "django.core.handlers.base.BaseHandler._get_response_async": (
        "Calls the view of a request; the public method runs all middlewares."
    ),
    "django.core.handlers.base.BaseHandler._middleware_chain": "Replaced by an empty chain.",
    "django.core.handlers.base.BaseHandler._view_middleware": "Replaced by an empty list.",
    "django.core.handlers.base.BaseHandler._template_response_middleware": (
        "Replaced by an empty list."
    ),
    "django.core.handlers.base.BaseHandler._exception_middleware": "Replaced by an empty list.",
    "asgiref.sync.SyncToAsync.context_to_thread_executor": (
        "Tells whether a request used a thread, whose database connections must be closed."
    ),
}


class ApiHandler(ASGIHandler):
    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        self._middleware_chain = self.respond

    async def respond(self, request: ASGIRequest) -> HttpResponseBase:
        """Return the view's response, or a JSON error: never an HTML page.

        Handles every error that no endpoint handles itself, and logs the traceback of unexpected
        ones once.
        """
        refuse = common.refusal if f"{request.path}/".startswith("/api/") else http.refusal
        try:
            found = await self._get_response_async(request)  # type: ignore[attr-defined]
            response: HttpResponseBase = found
        except Http404:
            return refuse(http.NoSuchAddress())
        except ChatsiteError as error:
            return refuse(error)
        except SuspiciousOperation as error:
            log.warning("API request refused", extra={"error": error})
            return refuse(BadRequest())
        except Exception as error:
            log.error("API request failed", exc_info=error)
            return refuse(ChatsiteError())
        return response

    def create_request(
        self, scope: Mapping[str, Any], body_file: IO[bytes]
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponseBase]:
        found = super().create_request(scope, body_file)
        if found[1] is None:
            return found
        refuse = common.refusal if f"{scope['path']}/".startswith("/api/") else http.refusal
        return None, refuse(BadRequest())

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext() as context:
            try:
                await self.handle(scope, receive, send)
            finally:
                if context in SyncToAsync.context_to_thread_executor:
                    await sync_to_async(close_old_connections)()

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request; cancel it when its client disconnects.

        The request's ID (`front.request_id`) is in its response and in each of its log lines.
        """
        id = front.request_id(scope)
        logs.request_id.set(id)
        facts = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "request_id": id,
        }
        parent = tracing.parent_of(scope["headers"])
        with tracing.span(f"{scope['method']} api", parent=parent, attributes=facts):
            await self._handle(scope, receive, send)

    async def _handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
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
        response["X-Request-ID"] = logs.request_id.get()
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
