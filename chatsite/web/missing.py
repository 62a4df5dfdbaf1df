"""The 404 response: a page for browsers, JSON for API clients."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views import defaults

from chatsite.api.core import http


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the response for an unknown path.

    API clients probe paths of other servers (`/tokenize`, `/props`); only browsers opening a page
    accept HTML.
    """
    if "text/html" in request.headers.get("Accept", ""):
        return defaults.page_not_found(request, exception)
    return http.refusal(http.NoSuchAddress())
