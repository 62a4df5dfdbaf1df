"""What the page's JSON endpoints share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

import msgspec
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from redis.exceptions import RedisError

from chatsite import json_input
from chatsite.accounts.models import User
from chatsite.errors import BadRequest, ChatsiteError, NotSignedIn, TooLarge
from chatsite.faults import server_fault

log = logging.getLogger(__name__)

_REASON_CHARS = 500
Body = TypeVar("Body", bound=msgspec.Struct)
View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def json_api(view: View) -> View:
    """Decorate an endpoint for signed-in users.

    Every `ChatsiteError` becomes ``{"error": {…}}`` with its status, and so does a failure of the
    database, Redis or the disk.
    """

    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return await view(request, await current_user(request), *args, **kwargs)
        except ChatsiteError as error:
            refusal = error
        except (DatabaseError, RedisError, OSError) as error:
            log.error("Request failed", exc_info=error, extra={"path": request.path})
            refusal = server_fault(error)
        return answered({"error": refusal.as_dict()}, status=refusal.status)

    return wrapped


def answered(value: object, status: int = 200) -> HttpResponse:
    """Return ``value`` as JSON: a struct of `schema`, or builtins with such structs."""
    return HttpResponse(msgspec.json.encode(value), content_type="application/json", status=status)


async def current_user(request: HttpRequest) -> User:
    user = await request.auser()
    if not isinstance(user, User):
        raise NotSignedIn
    return user


def decoded(request: HttpRequest, type: type[Body]) -> Body:
    """Return the JSON body as a struct. Raises `BadRequest` with the reason, or `TooLarge`."""
    try:
        return json_input.decode(request.body, msgspec.json.Decoder(type))
    except json_input.BadJson as error:
        raise BadRequest(reason=str(error)[:_REASON_CHARS]) from error
    except RequestDataTooBig as error:
        raise TooLarge(most=settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 10**6) from error
