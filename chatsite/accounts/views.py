"""Pages of sign-in that differ from allauth's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account import views as allauth
from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from chatsite.accounts import mail, signup
from chatsite.accounts import setup as first_run
from chatsite.accounts.adapter import sign_in_new_user
from chatsite.accounts.links import target
from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.errors import ServerBusy

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponseBase]


@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Show the form of the set-up link. A used or wrong link gets the same page, with 404."""
    if not first_run.is_valid(token):
        return _used(request)
    form = first_run.SetupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = first_run.create_first_administrator(form)
        except IntegrityError:
            # The name was taken between validation and save.
            form.add_error("username", _("That username is already taken."))
        else:
            if user is None:
                return _used(request)
            record("setup.completed", request=request, user=user, target=target(user))
            sign_in_new_user(request, user)
            return redirect(settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/setup.html", {"form": form, "invalid": False})


def _used(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/setup.html", {"form": None, "invalid": True}, status=404)


def needs_redis(view: View) -> View:
    """Show an error if no password can be checked now: Redis, which counts attempts, is down, or
    too many passwords are being checked.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except RedisError as error:
            logger.warning(
                "Redis is not responding: sign-in is unavailable", extra={"error": error}
            )
        except ServerBusy:
            logger.warning("Too many passwords are being checked")
        messages.error(request, _("Passwords can't be checked right now. Try again in a moment."))
        query = urlencode({"next": request.POST.get("next", "")})
        return redirect(f"{request.path}?{query}")

    return wrapper


class SignIn(allauth.LoginView):  # type: ignore[misc]  # untyped library
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **super().get_context_data(**kwargs),
            "sign_up_mode": signup.mode(),
            "by_mail": mail.configured(),
        }


@needs_redis
def login(request: HttpRequest) -> HttpResponseBase:
    """Show the sign-in page; until there is an administrator, a hint at the set-up link.

    The hint replaces the form while there are no users at all.
    """
    if request.method != "POST" and first_run.needed():
        if not User.objects.filter(is_active=True).exists():
            return render(request, "accounts/not_set_up.html")
        messages.warning(
            request,
            _("This site has no administrator. Open the set-up link that the server printed."),
        )
    response: HttpResponseBase = SignIn.as_view()(request)
    return response


@never_cache
@needs_redis
def reauthenticate(request: HttpRequest) -> HttpResponseBase:
    response: HttpResponseBase = allauth.reauthenticate(request)
    return response


@never_cache
@needs_redis
def password_change(request: HttpRequest) -> HttpResponseBase:
    """Change the password. Refuses users with an external password: allauth would set one here."""
    if request.user.is_authenticated and not request.user.has_usable_password():
        raise Http404
    response: HttpResponseBase = allauth.password_change(request)
    return response
