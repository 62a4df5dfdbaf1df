"""What the page's endpoints have in common."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from chatsite.accounts.models import User
from chatsite.errors import ChatsiteError, NotSignedIn

View = Callable[..., Coroutine[Any, Any, HttpResponse]]


def json_api(view: View) -> View:
    """Signed-in people only; every `ChatsiteError` becomes ``{"error": {…}}`` with its status."""

    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
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
