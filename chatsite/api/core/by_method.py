"""One URL whose methods need different scopes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from chatsite.api.core import http

View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def by_method(views: Mapping[str, View]) -> View:
    """Return a view that calls the endpoint of the request's method."""

    @csrf_exempt
    async def view(request: HttpRequest, **values: Any) -> HttpResponseBase:
        chosen = views.get(request.method or "")
        if chosen is None:
            return http.refusal(http.WrongMethod(allow=", ".join(views)))
        return await chosen(request, **values)

    return view
