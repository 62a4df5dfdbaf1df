"""What all endpoints share: who asks, the body, and how refusals look.

A request is known by its key alone. Session cookies mean nothing here, so no other site can use
somebody's sign-in, and forgery tokens are not needed.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from functools import partial, wraps
from typing import Any, TypeVar

import msgspec
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt
from redis.exceptions import RedisError

from chatsite.accounts import keys
from chatsite.api import front
from chatsite.api.database import in_database
from chatsite.errors import ChatsiteError, KeyMissing, ModelUnavailable

log = logging.getLogger(__name__)

# Seconds after which a full line or a loading model is worth another try.
_RETRY_AFTER = "5"
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
_CODES = {"too_many_requests": "rate_limit_exceeded", "message_too_long": "invalid_value"}

Body = TypeVar("Body")
View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]
encode = msgspec.json.Encoder().encode


class BadField(ChatsiteError):
    """``param`` names what is wrong in the body, as in ``messages[0].content``."""

    code = "invalid_value"
    status = 400
    message = _("This request can't be read. See /v1/docs for what it may hold.")


class BodyTooLarge(ChatsiteError):
    code = "body_too_large"
    status = 413
    message = _("The request is too large. Send less at once.")
    detailed = _("The request is larger than %(limit)s MiB. Send less at once.")


class WrongMethod(ChatsiteError):
    code = "method_not_allowed"
    status = 405
    message = _("This address does not take that method.")


class NoSuchAddress(ChatsiteError):
    code = "unknown_url"
    status = 404
    message = _("There is nothing at this address. See /v1/docs for the addresses of the API.")


class WrongHost(ChatsiteError):
    code = "unknown_host"
    status = 400
    message = _("This server does not answer under that name. See CHATSITE_ORIGINS.")


def endpoint(
    scope: str, *methods: str, refuse: Callable[[ChatsiteError], HttpResponse] | None = None
) -> Callable[[View], View]:
    """Gives the view the `Caller` of a key with ``scope``; turns refusals into error bodies,
    OpenAI's unless ``refuse`` makes others."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                try:
                    request.get_host()
                except DisallowedHost:
                    raise WrongHost from None
                if request.method not in methods:
                    raise WrongMethod(allow=", ".join(methods))
                key = key_of(request)
                if key is None and _is_foreign(request):
                    raise KeyMissing
                caller = await in_database(partial(keys.caller, key, scope))
                return await view(request, caller, *args, **kwargs)
            except ChatsiteError as error:
                return (refuse or refusal)(error)
            except (DatabaseError, RedisError) as error:
                log.error("an API request failed", exc_info=error)
                return (refuse or refusal)(ModelUnavailable(str(ChatsiteError())))

        return wrapped

    return decorate


def key_of(request: HttpRequest) -> str | None:
    """What a client sends as its key: OpenAI's header, or Anthropic's and llama-server's, or
    the password of an address like http://me:KEY@host:8000, which some know no other way for."""
    scheme, _separator, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    # Browsers keep passwords and send them for other sites' pages too; then they name the origin.
    if scheme.lower() == "basic" and "Origin" not in request.headers:
        return _password(key)
    return request.headers.get("X-Api-Key") or None


def _is_foreign(request: HttpRequest) -> bool:
    """Another site's page can send a request without a key through its reader's browser: it
    shall not have the rights that `CHATSITE_API_ANONYMOUS` gives to who reaches the server."""
    origin = request.headers.get("Origin")
    return origin is not None and not front.may_read(origin)


def _password(encoded: str) -> str:
    """Or the name, where that is all there is; nothing for what can't be read, a wrong key."""
    try:
        name, _separator, password = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return ""
    return password or name


def body(request: HttpRequest, decoder: msgspec.json.Decoder[Body]) -> Body:
    """The decoded body. Raises `BodyTooLarge`, or `BadField` naming what is wrong."""
    limit = settings.ENV.api_body_mb
    if int(request.META.get("CONTENT_LENGTH") or 0) > limit << 20:
        raise BodyTooLarge(limit=limit)
    # Not `request.body`, whose own limit is made for forms.
    data = request.read((limit << 20) + 1)
    if len(data) > limit << 20:
        raise BodyTooLarge(limit=limit)
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_field(error) from None


def bad_field(error: Exception) -> BadField:
    """From msgspec's message, which ends with the path of what is wrong."""
    text = str(error)
    found = _PATH.search(text)
    missing = re.search(r"missing required field `(\w+)`", text)
    path = found[1] if found else ""
    if missing:
        path = f"{path}.{missing[1]}".lstrip(".")
    reason = _PATH.sub("", text)
    return BadField(f"{path}: {reason}" if path else reason, param=path or None)


def error_body(error: ChatsiteError) -> dict[str, Any]:
    """OpenAI's shape, with the figures that llama-server adds."""
    details = {k: v for k, v in error.details.items() if k not in {"param", "allow"}}
    param = error.details.get("param")
    if error.code == "context_length_exceeded":
        param = "messages"
        details = {"n_prompt_tokens": details.get("prompt_tokens"), "n_ctx": details.get("context")}
    elif error.code == "model_not_found":
        param = "model"
    server = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": str(error),
            "type": _TYPES.get(error.status, server),
            "param": param,
            "code": _CODES.get(error.code, error.code),
            **details,
        }
    }


def refusal(error: ChatsiteError) -> HttpResponse:
    response = HttpResponse(
        encode(error_body(error)), status=error.status, content_type="application/json"
    )
    if error.status in {429, 503} and not error.permanent:
        response["Retry-After"] = _RETRY_AFTER
    elif error.status >= 500:
        # The official clients would try again twice.
        response["X-Should-Retry"] = "false"
    if error.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if allow := error.details.get("allow"):
        response["Allow"] = allow
    return _guarded(response)


def answer(value: object, position: int | None = None) -> HttpResponse:
    response = HttpResponse(encode(value), content_type="application/json")
    if position is not None:
        response["X-Queue-Position"] = str(position)
    return _guarded(response)


class Stream(StreamingHttpResponse):
    """``first`` and then ``rest`` of the body, which `handler.ApiHandler` sends as they come."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], content_type: str) -> None:
        super().__init__(self._all(), content_type=content_type)
        self.first, self.rest = first, rest

    async def _all(self) -> AsyncIterator[bytes]:
        yield self.first
        async for chunk in self.rest:
            yield chunk


async def stream(
    chunks: AsyncGenerator[bytes], content_type: str, position: int | None = None
) -> Stream:
    """The first chunk is made before the answer begins: until then what goes wrong is an
    ordinary refusal with its status."""
    response = Stream(await anext(chunks), chunks, content_type)
    if position is not None:
        response["X-Queue-Position"] = str(position)
    response["X-Accel-Buffering"] = "no"
    return _guarded(response)


R = TypeVar("R", bound=HttpResponseBase)


def _guarded(response: R) -> R:
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response


@csrf_exempt
async def nothing(request: HttpRequest) -> HttpResponse:
    return refusal(NoSuchAddress())
