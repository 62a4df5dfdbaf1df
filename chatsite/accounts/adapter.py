"""The configuration of allauth's accounts that needs code."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.core.internal import ratelimit
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from chatsite.accounts import lookup, signup, throttle
from chatsite.accounts.links import target
from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.audit.repeats import Repeats
from chatsite.site_settings import current

# Private names of allauth that are used, and why; see `chatsite.supported`.
PRIVATE_NAMES: Final = {
    "allauth.account.adapter.DefaultAccountAdapter._login_failed_rl_usage": (
        "Set: the usage that `authenticate` rolls back after a correct password."
    ),
    "allauth.core.internal.ratelimit.consume": (
        "Counts by our own action and key, and returns a usage that can be rolled back."
    ),
}

# In the session of a user who has just created the account: the time.
_STARTED_AT: Final = "account_created_at"
_LOCAL_BACKEND: Final = "allauth.account.auth_backends.AuthenticationBackend"

_throttled: Final = Repeats()
# Characters of an unknown name that are recorded: it may be a password in the wrong field.
_HINT_CHARS: Final = 3


def _known(name: str) -> str:
    """Return the name of a user, or the beginning of any other text."""
    return name if lookup.find(name) else f"{name[:_HINT_CHARS]}…"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Sign-in by username or email address, with our own limits; sign-up has its own pages."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    # Passwords.

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        """Resolve an email address to its user, so that backends and limits see one name."""
        if user := lookup.find(credentials.get("username") or ""):
            credentials["username"] = user.get_username()
        found: AbstractBaseUser | None = super().authenticate(request, **credentials)
        return found

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count the attempt before the password is checked; allauth undoes this on success.

        Raises `ValidationError` when the limit of `throttle` is reached.
        """
        name = credentials.get("username", "")
        limit = throttle.password_limit(request, name, self.get_client_ip(request))
        self._login_failed_rl_usage = _count(request, *limit)
        if not self._login_failed_rl_usage:
            # One event per minute and address: the attacker can cause any number.
            omitted = _throttled.take(self.get_client_ip(request))
            if omitted is not None:
                record(
                    "auth.throttled",
                    request=request,
                    outcome="denied",
                    name=_known(name),
                    omitted=omitted,
                )
            raise self.validation_error("too_many_login_attempts")

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        name = credentials.get("username", "")
        user = lookup.find(name)
        record(
            "auth.login_failed",
            request=request,
            target=target(user) if user else None,
            outcome="failed",
            reason="wrong_password" if user else "unknown_user",
            name=_known(name),
        )

    def pre_login(
        self, request: HttpRequest, user: AbstractBaseUser, **kwargs: Any
    ) -> HttpResponse | None:
        response: HttpResponse | None = super().pre_login(request, user, **kwargs)
        if response is not None or not isinstance(user, User):
            return response
        by_password = getattr(user, "backend", "") == _LOCAL_BACKEND
        if by_password and not password_allowed(user):
            _refused(request, user, "local_passwords")
            messages.error(
                request,
                _("Passwords of this site are for administrators. Sign in through your directory."),
            )
            return redirect("account_login")
        return None

    def respond_user_inactive(self, request: HttpRequest, user: AbstractBaseUser) -> HttpResponse:
        assert isinstance(user, User)  # noqa: S101  (`AUTH_USER_MODEL`)
        if waiting := signup.waiting(user):
            _refused(request, user, waiting.waiting_for)
            return signup.respond_waiting(request, waiting)
        _refused(request, user, "inactive")
        return redirect("account_inactive")

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Do not ask again for a few minutes after a sign-in."""
        request = self.request
        records = get_authentication_records(request, request.user)
        times = [one["at"] for one in records] + [request.session.get(_STARTED_AT, 0.0)]
        if time.time() - max(times) < app_settings.REAUTHENTICATION_TIMEOUT:
            return False
        return bool(super().is_reauthentication_required(app=app, **kwargs))

    # Codes of second factors, and other forms.

    def count_code(self, request: HttpRequest, user: User) -> Callable[[], None]:
        """Count an attempt at a code; return a function that undoes it after a right one.

        Raises `ValidationError` when a limit of `throttle` is reached.
        """
        usages = []
        address = self.get_client_ip(request)
        for limit in throttle.code_limits(request, user.get_username(), address):
            usage = _count(request, *limit)
            if not usage:
                record("auth.throttled", request=request, target=target(user), outcome="denied")
                raise self.validation_error("too_many_login_attempts")
            usages.append(usage)

        def undo() -> None:
            for usage in usages:
                usage.rollback()

        return undo


def sign_in_new_user(request: HttpRequest, user: User) -> None:
    """Start the session of a user who has just chosen their password."""
    login(request, user, backend=_LOCAL_BACKEND)
    request.session[_STARTED_AT] = time.time()


def limited(request: HttpRequest, action: str, key: str = "") -> bool:
    """Count a request under ``action`` of `ACCOUNT_RATE_LIMITS`; return whether it is too many."""
    return not _count(request, action, key.lower())


def _count(request: HttpRequest, action: str, key: str) -> Any:
    return ratelimit.consume(request, app="allauth.account", action=action, key=key)


def password_allowed(user: User) -> bool:
    """Return whether ``user`` may sign in with a password of this site."""
    return current().local_passwords == "allowed" or user.is_superuser


def _refused(request: HttpRequest, user: User, reason: str) -> None:
    record(
        "auth.login_failed",
        request=request,
        user=user,
        target=target(user),
        outcome="denied",
        reason=reason,
    )
