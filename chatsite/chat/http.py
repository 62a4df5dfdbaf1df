"""What the page's endpoints have in common."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

import msgspec
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from chatsite.accounts.models import User
from chatsite.errors import BadRequest, ChatsiteError, NotSignedIn

Body = TypeVar("Body", bound=msgspec.Struct)
View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def json_api(view: View) -> View:
    """Signed-in people only; every `ChatsiteError` becomes ``{"error": {…}}`` with its status."""

    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return await view(request, await person(request), *args, **kwargs)
        except ChatsiteError as error:
            return JsonResponse({"error": error.as_dict()}, status=error.status)

    return wrapped


async def person(request: HttpRequest) -> User:
    user = await request.auser()
    if not isinstance(user, User):
        raise NotSignedIn
    return user


def decoded(request: HttpRequest, type: type[Body]) -> Body:
    """The JSON body as a struct; `BadRequest` says what is wrong with it."""
    try:
        return msgspec.json.decode(request.body, type=type)
    except msgspec.DecodeError as error:
        raise BadRequest(reason=str(error)) from error
