"""Pages of sign-in that are not allauth's as they come."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps

from allauth.account import views as allauth
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login as start_session
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from chatsite.accounts import setup as first_run

logger = logging.getLogger(__name__)

View = Callable[[HttpRequest], HttpResponseBase]


@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """The form behind the set-up link. A used or wrong link gets the same page, with 404."""
    if not first_run.is_valid(token):
        return _used(request)
    form = first_run.SetupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = first_run.create_first_administrator(form)
        except IntegrityError:
            # The name was taken between the form's check and the saving.
            form.add_error("username", _("There is a person of this name already."))
        else:
            if user is None:
                return _used(request)
            start_session(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
            return redirect(settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/setup.html", {"form": form, "invalid": False})


def _used(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/setup.html", {"form": None, "invalid": True}, status=404)


def _needs_redis(view: View) -> View:
    """Redis counts attempts. Without it nobody may try a password, which must be said."""

    @wraps(view)
    def wrapper(request: HttpRequest) -> HttpResponseBase:
        try:
            return view(request)
        except RedisError as error:
            logger.warning("Redis does not answer, so passwords can't be checked: %s", error)
            messages.error(
                request, _("Passwords can't be checked right now. Try again in a moment.")
            )
            query = urlencode({"next": request.POST.get("next", "")})
            return redirect(f"{request.path}?{query}")

    return wrapper


@_needs_redis
def login(request: HttpRequest) -> HttpResponseBase:
    response: HttpResponseBase = allauth.login(request)
    return response


@never_cache
@_needs_redis
def password_change(request: HttpRequest) -> HttpResponseBase:
    """Not for people whose password is kept elsewhere: allauth would let them set one here."""
    if request.user.is_authenticated and not request.user.has_usable_password():
        raise Http404
    response: HttpResponseBase = allauth.password_change(request)
    return response
