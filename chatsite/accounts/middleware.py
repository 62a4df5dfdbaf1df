"""Keeps users who must set up a second factor on the pages for that; notes sessions in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin

from chatsite.accounts import second_factor, sessions
from chatsite.accounts.models import User
from chatsite.errors import SecondFactorRequired

# Routes that a user without the required second factor may use, beside those of `mfa_`.
_ALLOWED: Final = {
    "account_login",
    "account_logout",
    "account_reauthenticate",
    "set_language",
    "javascript-catalog",
    "manifest",
}


class SignInMiddleware(MiddlewareMixin):
    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        # Without a session there is no user, and nothing to look up.
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or not second_factor.possible():
            return None
        match = request.resolver_match
        name = (match.url_name or "") if match else ""
        user = request.user
        if name in _ALLOWED or name.startswith("mfa_") or not isinstance(user, User):
            return None
        if not second_factor.must_set_up(user, request.session):
            return None
        if request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("Accept", ""):
            return redirect(reverse("mfa_index"))
        error = SecondFactorRequired()
        return JsonResponse({"error": error.as_dict()}, status=error.status)

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        session = getattr(request, "session", None)
        if session is not None and session.accessed and session.session_key:
            sessions.seen(session.session_key, request.META.get("REMOTE_ADDR") or "")
        return response
