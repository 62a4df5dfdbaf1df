"""What all endpoints share: authentication, the request body, and error responses.

A request is authenticated by its key alone. Session cookies are ignored, so another site can't use
a user's session, and CSRF tokens are not needed.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, TypeVar

import msgspec
from django.conf import settings
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt
from redis.exceptions import RedisError

from chatsite import json_input
from chatsite.accounts import keys
from chatsite.answers import gate
from chatsite.answers.runtime import runtime
from chatsite.api.core import auditing, body_sizes, body_stream, coding, front, rate_limits
from chatsite.api.core.database import in_database
from chatsite.conversations.models import Via
from chatsite.errors import BodyTooSlow, ChatsiteError, KeyMissing, ModelUnavailable
from chatsite.faults import queue_fault, server_fault
from chatsite.numbers import natural
from chatsite.policy.decisions import ModelNotAllowed

log = logging.getLogger(__name__)

# Seconds after which a retry is worthwhile when the queue is full or a model is loading.
_RETRY_AFTER = "5"
_AT = " - at `$"
_MISSING = re.compile(r"missing required field `(\w+)`")
# Length limit of msgspec's messages, which quote the input.
_REASON_CHARS = 500
_WORDS_CHARS = 2000
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
# Bytes of a long list that are encoded between pauses of the event loop: less than a millisecond.
PIECE_BYTES = 64 << 10
# Timeout for the arrival of a large body, so that its place among the large ones is freed.
_LARGE_SECONDS = 300.0
CODES = {
    "too_many_requests": "rate_limit_exceeded",
    "quota_reserved": "rate_limit_exceeded",
    # OpenAI's code for an amount that is used up, which clients do not retry.
    "quota_exceeded": "insufficient_quota",
    "context_limit_exceeded": "context_length_exceeded",
    "message_too_long": "invalid_value",
}
# Retries later than this are left to the client's user.
_RETRY_MAX_SECONDS = 60

Body = TypeVar("Body")
View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]
encode = msgspec.json.Encoder().encode


class BadField(ChatsiteError):
    """An invalid request field; ``param`` is its path, as in ``messages[0].content``."""

    code = "invalid_value"
    status = 400
    message = _("The request could not be parsed. See /v1/docs for the accepted fields.")


class BodyTooLarge(ChatsiteError):
    code = "body_too_large"
    status = 413
    message = _("The request is too large. Send a smaller request.")
    detailed = _("The request is larger than %(limit)s MiB. Send a smaller request.")


class WrongMethod(ChatsiteError):
    code = "method_not_allowed"
    status = 405
    message = _("Method not allowed.")


class NoSuchAddress(ChatsiteError):
    code = "unknown_url"
    status = 404
    message = _("Unknown URL. See /v1/docs for the endpoints of the API.")


class WrongHost(ChatsiteError):
    code = "unknown_host"
    status = 400
    message = _("Unknown host name. Add it to CHATSITE_ORIGINS.")


class NoAccess(ChatsiteError):
    """A model that the caller may not use, in OpenAI's words: like one that does not exist."""

    code = "model_not_found"
    status = 404
    message = _(
        "The model does not exist or you do not have access to it. Ask an administrator for access."
    )
    detailed = _(
        "The model “%(model)s” does not exist or you do not have access to it. Ask an "
        "administrator for access."
    )


def for_programs(error: ChatsiteError) -> ChatsiteError:
    """Return the error as API clients get it."""
    return NoAccess(**error.details) if isinstance(error, ModelNotAllowed) else error


def endpoint(
    scope: str,
    *methods: str,
    refuse: Callable[[ChatsiteError], HttpResponse] | None = None,
    streamed: bool = False,
) -> Callable[[View], View]:
    """Authenticate with ``scope``, pass the view its `Caller`, and turn errors into responses.

    Error bodies have OpenAI's shape unless ``refuse`` makes others. The body is read only after the
    key was accepted. With ``streamed`` the view reads it itself.
    """

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            caller: keys.Caller | None = None
            try:
                with ExitStack() as stack:
                    caller = await _admitted(request, scope, methods)
                    if not streamed:
                        await _take_body(request, caller, stack)
                    response = await view(request, caller, *args, **kwargs)
                    auditing.answered(request, caller, response.status_code)
            except ChatsiteError as error:
                auditing.refused(request, error, caller, key_of(request))
                response = (refuse or refusal)(error)
            except (Http404, SuspiciousOperation):
                raise
            except (DatabaseError, RedisError, OSError) as error:
                log.error("API request failed", exc_info=error)
                fault = queue_fault(error) if isinstance(error, RedisError) else server_fault(error)
                if type(fault) is ChatsiteError:  # worth a retry, unlike others of its status
                    fault = ModelUnavailable(str(fault))
                response = (refuse or refusal)(fault)
            except Exception as error:
                log.error("API request failed", exc_info=error)
                response = (refuse or refusal)(ChatsiteError())
            if caller is not None and caller.has_quotas:
                await rate_limits.add_headers(response, caller.user)
            return response

        return wrapped

    return decorate


async def _admitted(request: HttpRequest, scope: str, methods: tuple[str, ...]) -> keys.Caller:
    """Authenticate the request by its headers alone. Raises `ChatsiteError`."""
    try:
        request.get_host()
    except DisallowedHost:
        raise WrongHost from None
    if request.method not in methods:
        raise WrongMethod(allow=", ".join(methods))
    key = key_of(request)
    if key is None and _is_foreign(request):
        raise KeyMissing
    caller = await in_database(partial(_caller, request, key, scope))
    if request.path_info.startswith("/api/"):
        caller.door = Via.OLLAMA
    return caller


def _caller(request: HttpRequest, key: str | None, scope: str) -> keys.Caller:
    """Return the caller, who has accepted the terms of use. Raises `ChatsiteError`."""
    caller = keys.caller(key, scope)
    gate.require_terms(caller.user)
    auditing.admitted(request, caller)
    return caller


async def _take_body(request: HttpRequest, caller: keys.Caller, stack: ExitStack) -> None:
    """Read the body into ``request.taken``.

    ``stack`` holds the place of a large body until `body` has decoded it or the request ends.
    Raises `BodyTooLarge`, `BodyTooSlow`, `coding.UnknownCoding` or `coding.BadCoding`.
    """
    coded = coding.check(request.headers.get("Content-Encoding", ""))
    most = settings.ENV.api_body_mb << 20
    length = natural(request.META.get("CONTENT_LENGTH") or "0", 2**63)
    if length is None or length > most:
        raise _too_large()
    stream = body_stream.of(getattr(request, "scope", {}))
    data = bytearray()
    release: Callable[[], None] | None = None
    try:
        # Not `request.body`: its limit is meant for forms.
        part = await stream.read() if stream else request.read(most + 1)
        async with asyncio.timeout(None) as deadline:
            while part:
                data += part
                if len(data) > most:
                    raise _too_large()
                if release is None and (coded or max(len(data), length) > body_sizes.LARGE):
                    release = await runtime().bodies.acquire(caller.user.pk)
                    stack.callback(release)
                    deadline.reschedule(asyncio.get_running_loop().time() + _LARGE_SECONDS)
                part = await stream.read() if stream else b""
    except (body_stream.TooSlow, TimeoutError):
        raise BodyTooSlow from None
    except body_stream.Broken:
        raise BadField from None  # the client has disconnected and will not read it
    taken = bytes(data)
    if coded and taken:
        try:
            taken = await asyncio.to_thread(coding.unpacked, coded, taken, most)
        except coding.TooMuch:
            raise _too_large() from None
    request.taken = taken  # type: ignore[attr-defined]
    request.release = release  # type: ignore[attr-defined]


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(limit=settings.ENV.api_body_mb)


def key_of(request: HttpRequest) -> str | None:
    """Return the API key of a request, None if it has none.

    Accepts OpenAI's header, those of other vendors, and the password of a URL like
    http://me:KEY@host:8000, the only place for a key in some clients.
    """
    scheme, _separator, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    # Browsers store passwords and also send them for other sites' pages, but then with an Origin.
    if scheme.lower() == "basic" and "Origin" not in request.headers:
        return _password(key)
    # Anthropic's and llama-server's header, then Azure's.
    return request.headers.get("X-Api-Key") or request.headers.get("Api-Key") or None


def _is_foreign(request: HttpRequest) -> bool:
    """Return whether a page of an origin that is not allowed sent the request.

    Any site's page can send a request without a key through its visitor's browser. It must not get
    the rights that `CHATSITE_API_ANONYMOUS` grants to everyone who can reach the server.
    """
    origin = request.headers.get("Origin")
    return origin is not None and not front.may_read(origin)


def _password(encoded: str) -> str:
    """Return the password, or the name if there is none; "" (a wrong key) if undecodable."""
    try:
        name, _separator, password = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return ""
    return password or name


def body(request: HttpRequest, decoder: msgspec.json.Decoder[Body]) -> Body:
    """Return the decoded body; can be called once. Raises `BadField` that names the field."""
    data: bytes = request.taken  # type: ignore[attr-defined]
    request.taken = b""  # type: ignore[attr-defined]
    if not data:
        raise BadField("missing request body")
    try:
        return json_input.decode(data, decoder)
    except json_input.BadJson as error:
        if "`float`" in str(error):
            return _with_whole_numbers(data, decoder)
        raise bad_field(error) from None
    finally:
        if release := request.release:  # type: ignore[attr-defined]
            release()


_anything = msgspec.json.Decoder()


def _with_whole_numbers(data: bytes, decoder: msgspec.json.Decoder[Body]) -> Body:
    """Decode a body in which integers are written as 5.0, as Gson and Lua do."""
    try:
        return msgspec.convert(_whole(json_input.decode(data, _anything)), decoder.type)
    except (msgspec.ValidationError, json_input.BadJson) as error:
        raise bad_field(error) from None


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return value


def bad_field(error: Exception) -> BadField:
    """Convert msgspec's message, which ends with the path of the invalid field."""
    reason, at, path = str(error).rpartition(_AT)
    if not at:
        reason, path = path, ""
    path = path.removesuffix("`").removeprefix(".")[:_REASON_CHARS]
    if len(reason) > _REASON_CHARS:
        reason = f"{reason[:_REASON_CHARS]}…"
    if missing := _MISSING.search(reason):
        path = f"{path}.{missing[1]}".lstrip(".")
    return BadField(f"{path}: {reason}" if path else reason, param=path or None)


def words(error: ChatsiteError) -> str:
    """Return the error's message, truncated since it may quote the input."""
    text = str(error)
    return text if len(text) <= _WORDS_CHARS else f"{text[:_WORDS_CHARS]}…"


def error_body(error: ChatsiteError) -> dict[str, Any]:
    """Return OpenAI's error body, with the token counts that llama-server adds."""
    details = {k: v for k, v in error.details.items() if k not in {"param", "allow", "model"}}
    param = error.details.get("param")
    if CODES.get(error.code, error.code) == "context_length_exceeded":
        details = {"n_prompt_tokens": details.get("prompt_tokens"), "n_ctx": details.get("context")}
    elif error.code == "model_not_found":
        param = "model"
    server = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": words(error),
            "type": _TYPES.get(error.status, server),
            "param": param,
            "code": CODES.get(error.code, error.code),
            **details,
        }
    }


def refusal(error: ChatsiteError) -> HttpResponse:
    error = for_programs(error)
    response = HttpResponse(
        encode(error_body(error)), status=error.status, content_type="application/json"
    )
    if (seconds := error.details.get("retry_after")) is not None:
        response["Retry-After"] = str(seconds)
        if seconds > _RETRY_MAX_SECONDS:
            response["X-Should-Retry"] = "false"
    elif error.status in {429, 503} and not error.permanent:
        response["Retry-After"] = _RETRY_AFTER
    elif error.status >= 500:
        # The official clients would otherwise retry twice.
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


def answer_lists(
    head: object, lists: Mapping[str, Iterable[object]], position: int | None = None
) -> HttpResponseBase:
    """Return ``head`` with the items of ``lists`` in its fields of these names.

    In ``head`` these fields are empty lists, in the order of ``lists``. Items are created and
    encoded in pieces, with a pause of the event loop after each: encoding a long list in one go
    would delay other clients' streams.
    """
    pieces = list_pieces(head, lists)
    first = next(pieces)
    second = next(pieces, None)
    response: HttpResponseBase
    if second is None:
        response = HttpResponse(first, content_type="application/json")
    else:
        response = Stream(first, _paused(second, pieces), "application/json")
    if position is not None:
        response["X-Queue-Position"] = str(position)
    return _guarded(response)


def list_pieces(head: object, lists: Mapping[str, Iterable[object]]) -> Iterator[bytes]:
    """Yield the JSON of `answer_lists` in pieces of `PIECE_BYTES` plus at most one item."""
    rest = encode(head)
    held = bytearray()
    for name, items in lists.items():
        # Quotes in strings are escaped, so only the field itself can match.
        before, start, rest = rest.partition(f'"{name}":['.encode())
        held += before + start
        comma = b""
        for item in items:
            held += comma
            held += encode(item)
            comma = b","
            if len(held) >= PIECE_BYTES:
                yield bytes(held)
                held.clear()
    held += rest
    yield bytes(held)


async def _paused(first: bytes, rest: Iterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    for piece in rest:
        await asyncio.sleep(0)
        yield piece


class Stream(StreamingHttpResponse):
    """A response that `handler.ApiHandler` sends as ``first`` and then the chunks of ``rest``."""

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
    """Start a streaming response once its first chunk exists.

    An error before that is still an ordinary error response with its status.
    """
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
