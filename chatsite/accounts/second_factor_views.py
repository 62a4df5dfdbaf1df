"""Pages of second factors: allauth's, with what this site adds."""

from __future__ import annotations

from typing import Any

from allauth.mfa.base.views import IndexView
from allauth.mfa.base.views import authenticate as allauth_authenticate
from allauth.mfa.base.views import reauthenticate as allauth_reauthenticate
from allauth.mfa.webauthn.views import login_webauthn
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache

from chatsite.accounts import second_factor
from chatsite.accounts.models import User
from chatsite.accounts.views import needs_redis


class Index(IndexView):  # type: ignore[misc]  # untyped library
    """The list of factors. Tells users who must set one up, and what they can do after it."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = self.request.user
        assert isinstance(user, User)  # noqa: S101  (`login_required`)
        required = second_factor.required(user)
        return {
            **super().get_context_data(**kwargs),
            "required": required,
            "must_set_up": second_factor.must_set_up(user, self.request.session),
        }


index = never_cache(Index.as_view())


@never_cache
@needs_redis
def authenticate(request: HttpRequest) -> HttpResponseBase:
    """Ask for the second factor at sign-in."""
    response: HttpResponseBase = allauth_authenticate(request)
    return response


@never_cache
@needs_redis
def reauthenticate(request: HttpRequest) -> HttpResponseBase:
    response: HttpResponseBase = allauth_reauthenticate(request)
    return response


@never_cache
@needs_redis
def sign_in_by_passkey(request: HttpRequest) -> HttpResponseBase:
    response: HttpResponseBase = login_webauthn(request)
    return response


@login_required
def keys(request: HttpRequest) -> HttpResponse:
    """Redirect from allauth's list of passkeys, to which its pages return."""
    return redirect("mfa_index")
