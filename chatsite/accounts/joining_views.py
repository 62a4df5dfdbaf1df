"""Pages of people who can't sign in yet, or no more: invitation, sign-up, new password."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from chatsite.accounts import invitations, links, lookup, mail, notices, signup
from chatsite.accounts.adapter import limited, password_allowed, sign_in_new_user
from chatsite.accounts.forms import AskForLinkForm, NewAccountForm, NewPasswordForm, sign_up_form
from chatsite.accounts.links import target
from chatsite.accounts.models import AccountLink, SignUp, User
from chatsite.accounts.views import needs_redis
from chatsite.audit.record import record
from chatsite.errors import TooManyRequests

_READ_AND_WRITE: Final = ["GET", "HEAD", "POST"]


def _too_many() -> str:
    return _("Too many attempts from your address. Try again in a few minutes.")


@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(_READ_AND_WRITE)
@needs_redis
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Create the account of an invitation and sign in."""
    found = invitations.find(token)
    if found is None:
        return _invalid(request)
    form = NewAccountForm(request.POST or None, invitation=found)
    if request.method == "POST" and form.is_valid():
        if limited(request, "use_link"):
            form.add_error(None, _too_many())
        else:
            user: User = form.save(commit=False)
            try:
                accepted = invitations.accept(found, user)
            except IntegrityError:
                # The name was taken between validation and save.
                form.add_error("username", _("That username is already taken."))
            else:
                if not accepted:
                    return _invalid(request)
                sign_in_new_user(request, user)
                return redirect(settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/invitation.html", {"form": form, "invitation": found})


@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(_READ_AND_WRITE)
@needs_redis
def sign_up(request: HttpRequest) -> HttpResponse:
    """Create an account that waits for approval or confirmation; 404 where sign-up is closed."""
    mode = signup.mode()
    if mode == "closed":
        raise Http404
    if request.user.is_authenticated:
        return redirect(settings.LOGIN_REDIRECT_URL)
    form = sign_up_form(request.POST or None, by_mail=mail.configured())
    if request.method == "POST" and form.is_valid():
        waits_for = SignUp.Waiting.CONFIRMATION if mode == "domain" else SignUp.Waiting.APPROVAL
        if limited(request, "signup"):
            form.add_error(None, _too_many())
        elif form.email_taken:
            address = form.cleaned_data["email"]
            url = links.absolute(settings.LOGIN_URL, request)
            mail.send_later(mail.written(address, "account_exists", url=url))
            return redirect("sign_up_waiting", what=waits_for)
        else:
            try:
                signup.create(form.save(commit=False), request)
            except IntegrityError:
                form.add_error("username", _("That username is already taken."))
            except TooManyRequests:
                form.add_error(
                    None, _("Too many people wait for an account. Ask an administrator.")
                )
            else:
                return redirect("sign_up_waiting", what=waits_for)
    return render(request, "accounts/sign_up.html", {"form": form, "mode": mode})


@never_cache
def sign_up_waiting(request: HttpRequest, what: str) -> HttpResponse:
    if what not in SignUp.Waiting.values:
        raise Http404
    return render(
        request, "accounts/sign_up_waiting.html", {"what": what, "by_mail": mail.configured()}
    )


@never_cache
@require_http_methods(_READ_AND_WRITE)
def confirm_email(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm an address. A GET only shows a button: mail scanners open links."""
    found = links.find(token, AccountLink.Purpose.EMAIL)
    if found is None or lookup.is_taken(found.email, besides=found.user):
        return _invalid(request)
    if request.method != "POST":
        return render(request, "accounts/confirm_email.html", {"link": found})
    if not signup.confirm(found):
        return _invalid(request)
    messages.success(request, _("Your email address is confirmed."))
    return redirect("account" if request.user.is_authenticated else settings.LOGIN_URL)


@never_cache
@require_http_methods(_READ_AND_WRITE)
@needs_redis
def reset_password(request: HttpRequest) -> HttpResponse:
    """Mail a link for a new password; the answer is the same whether the address exists."""
    if not mail.configured():
        return render(request, "accounts/reset_password.html", {"form": None})
    form = AskForLinkForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        address = form.cleaned_data["email"]
        if limited(request, "ask_for_link", address):
            record("auth.throttled", request=request, outcome="denied", name=address)
        else:
            _send_reset(request, address)
        return render(request, "accounts/reset_password.html", {"form": None, "sent": True})
    return render(request, "accounts/reset_password.html", {"form": form})


def _send_reset(request: HttpRequest, address: str) -> None:
    user = lookup.by_email(address)
    known = (
        user is not None
        and user.is_active
        and user.has_usable_password()
        and password_allowed(user)
    )
    record(
        "auth.password_link_requested",
        request=request,
        target=target(user) if user else None,
        outcome="ok" if known else "denied",
        name=address,
    )
    if user is not None and known:
        text = links.create(user, AccountLink.Purpose.PASSWORD, links.PASSWORD_BY_MAIL)
        url = links.absolute(reverse("new_password", args=[text]), request)
        mail.send_later(mail.written(user.email, "reset", url=url, person=user))


@never_cache
@sensitive_post_parameters("new_password1", "new_password2")
@require_http_methods(_READ_AND_WRITE)
@needs_redis
def new_password(request: HttpRequest, token: str) -> HttpResponse:
    """Set the password by a link. Ends all sessions; signing in then needs the second factor."""
    found = links.find(token, AccountLink.Purpose.PASSWORD)
    if found is None or not found.user.is_active:
        return _invalid(request)
    user = found.user
    form = NewPasswordForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        if limited(request, "use_link"):
            form.add_error(None, _too_many())
        elif not links.use(found):
            return _invalid(request)
        else:
            form.save()
            record(
                "auth.password_changed", request=request, user=user, target=target(user), by="link"
            )
            notices.send(user, notices.Notice.PASSWORD_CHANGED)
            messages.success(request, _("Your password was changed. Sign in with it."))
            return redirect(settings.LOGIN_URL)
    return render(request, "accounts/new_password.html", {"form": form, "person": user})


def _invalid(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/link_invalid.html", status=404)
