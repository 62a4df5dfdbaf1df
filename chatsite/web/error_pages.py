"""The page for an unexpected error; it says so if a full disk is the cause."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from chatsite import logs
from chatsite.errors import StorageFull
from chatsite.faults import is_storage_full


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the error page with the request's ID.

    Django calls this while it handles the exception.
    """
    error = sys.exc_info()[1]
    if error is not None and is_storage_full(error):
        return HttpResponse(render_to_string("507.html"), status=StorageFull.status)
    page = render_to_string("500.html", {"request_id": logs.request_id.get()})
    return HttpResponse(page, status=500)
