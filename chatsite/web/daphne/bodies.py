"""Bodies of page requests: limits by sender, enforced before any of the body is read.

API requests read theirs in `api.core.http`, after the key has been checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from http.cookies import CookieError, SimpleCookie
from typing import Any

from django.conf import settings

from chatsite.accounts import identity
from chatsite.answers.runtime import runtime
from chatsite.api.core import body_sizes, body_stream
from chatsite.errors import BodyTooSlow, ChatsiteError, NotSignedIn, TooLarge
from chatsite.web.daphne import limits, refusal

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def bounded(application: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """Run ``application`` with a body that is streamed, within the limit of its path.

    Bodies larger than a form are accepted from signed-in users only, and only a few large ones
    concurrently. Refusals are sent here.
    """
    body = body_stream.of(scope)
    if body is None:
        await application(scope, receive, send)
        return
    begun = False

    async def sending(message: Mapping[str, Any]) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        async with AsyncExitStack() as stack:
            most = limits.most(scope["path"])
            length = _length(scope)
            if length is not None and length > most:
                raise TooLarge(most=_megabytes(most))
            if length is None or length > body_sizes.FOR_ALL:
                user = await identity.session_user(_session_key(scope))
                if user is None:
                    raise NotSignedIn
                if length is None or length > body_sizes.LARGE:
                    await stack.enter_async_context(runtime().bodies.hold(user.pk))
            await application(scope, _Reader(body, receive, most).receive, sending)
    except ChatsiteError as error:
        if begun:
            raise
        await refusal.answer(scope["path"], error, send)


class _Reader:
    """ASGI's ``receive`` over a `body_stream.BodyStream`. Raises `TooLarge` and `BodyTooSlow`."""

    def __init__(self, body: body_stream.BodyStream, receive: Receive, most: int) -> None:
        self._body, self._receive, self._left = body, receive, most
        self._most = most
        self._begun = self._ended = False

    async def receive(self) -> Any:
        if self._ended:
            return await self._receive()
        if not self._begun:
            self._begun = True
            message = await self._receive()  # the empty body that the server sends first
            if message["type"] == "http.disconnect":
                return message
        try:
            data = await self._body.read()
        except body_stream.Broken:
            return {"type": "http.disconnect"}
        except body_stream.TooSlow:
            raise BodyTooSlow from None
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(most=_megabytes(self._most))
        self._ended = not data
        return {"type": "http.request", "body": data, "more_body": not self._ended}


def _length(scope: Scope) -> int | None:
    """Return the declared length in bytes; None for a chunked body."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths else None


def _session_key(scope: Scope) -> str | None:
    cookies: SimpleCookie = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                cookies.load(value.decode("latin-1"))
            except CookieError:
                continue
    found = cookies.get(settings.SESSION_COOKIE_NAME)
    return found.value if found else None


def _megabytes(size: int) -> int:
    return max(1, round(size / 1e6))
