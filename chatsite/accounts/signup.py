"""Sign-up without an invitation: by approval of an administrator, or by e-mail domain.

An account that waits is an inactive user with a `SignUp`. It can't sign in, and no page lists it
but that of waiting sign-ups.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Literal

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from chatsite.accounts import links, mail
from chatsite.accounts.links import target
from chatsite.accounts.models import AccountLink, SignUp, User
from chatsite.audit.record import record
from chatsite.errors import TooManyRequests
from chatsite.site_settings import current

Mode = Literal["closed", "approval", "domain"]

WAITING_MAX: Final = 1000
# Unconfirmed accounts are deleted after this time; approvals are kept for the administrators.
_UNCONFIRMED: Final = timedelta(days=3)


def mode() -> Mode:
    """Return how users may sign up. Closed too where a setting lacks what it needs."""
    found = current()
    if found.local_passwords != "allowed":
        return "closed"
    if found.signup_mode == "domain" and not (mail.configured() and found.signup_domains):
        return "closed"
    return found.signup_mode


def waiting(user: User) -> SignUp | None:
    return SignUp.objects.filter(user=user).first()


def pending() -> QuerySet[SignUp]:
    """Return the sign-ups that wait for an administrator, oldest first."""
    found = SignUp.objects.filter(waiting_for=SignUp.Waiting.APPROVAL)
    return found.select_related("user")


def create(user: User, request: HttpRequest) -> SignUp:
    """Save a new ``user``, who then waits for approval or for the confirmation of the address.

    Raises `TooManyRequests` if too many wait, and `IntegrityError` if the name was just taken.
    """
    purge()
    if SignUp.objects.count() >= WAITING_MAX:
        raise TooManyRequests
    by_domain = mode() == "domain"
    waits_for = SignUp.Waiting.CONFIRMATION if by_domain else SignUp.Waiting.APPROVAL
    user.is_active = False
    with transaction.atomic():
        user.save()
        made = SignUp.objects.create(
            user=user, waiting_for=waits_for, address=request.META.get("REMOTE_ADDR") or ""
        )
    record("signup.requested", request=request, user=user, target=target(user), waiting=waits_for)
    if by_domain:
        send_confirmation(user, request)
    return made


def send_confirmation(user: User, request: HttpRequest) -> None:
    """Mail a link that confirms the address of a user who signed up."""
    text = links.create(user, AccountLink.Purpose.EMAIL, links.EMAIL_CONFIRMATION, email=user.email)
    url = links.absolute(reverse("confirm_email", args=[text]), request)
    mail.send_later(mail.written(user.email, "confirm", url=url, person=user))


def respond_waiting(request: HttpRequest, sign_up: SignUp) -> HttpResponse:
    """Answer a sign-in, with the right password, of a user who still waits."""
    if sign_up.waiting_for == SignUp.Waiting.CONFIRMATION and mail.configured():
        fresh = timezone.now() - timedelta(minutes=5)
        if not AccountLink.objects.filter(user=sign_up.user, created_at__gt=fresh).exists():
            send_confirmation(sign_up.user, request)
    return redirect("sign_up_waiting", what=sign_up.waiting_for)


def approve(user: User, *, by: User | None, via: str = "page") -> bool:
    """Activate a user who waits. Returns False if they no longer do."""
    with transaction.atomic():
        deleted, _rows = SignUp.objects.filter(user=user).delete()
        if not deleted:
            return False
        user.is_active = True
        user.save(update_fields=["is_active"])
    record("signup.approved", user=by, via=via, target=target(user))
    _tell(user, "approved")
    return True


def refuse(user: User, *, by: User | None, via: str = "page") -> bool:
    """Delete a user who waits. Returns False if they no longer do."""
    about = target(user)
    with transaction.atomic():
        if not SignUp.objects.select_for_update().filter(user=user).exists():
            return False
        User.objects.filter(pk=user.pk, is_active=False).delete()
    record("signup.refused", user=by, via=via, target=about)
    _tell(user, "refused")
    return True


def confirm(link: AccountLink) -> bool:
    """Confirm the address of ``link``: activate a user who waits, or change a user's address.

    Returns False if the link can't be used (any more).
    """
    user = link.user
    with transaction.atomic():
        if not links.use(link):
            return False
        found = SignUp.objects.filter(user=user)
        if found.filter(waiting_for=SignUp.Waiting.CONFIRMATION).exists():
            found.delete()
            user.is_active = True
        elif not user.is_active:
            return False
        user.email = link.email
        user.save(update_fields=["email", "is_active"])
    record("user.email_confirmed", user=user, target=target(user))
    return True


def purge() -> None:
    """Delete accounts whose address was not confirmed in time."""
    before = timezone.now() - _UNCONFIRMED
    stale = SignUp.objects.filter(waiting_for=SignUp.Waiting.CONFIRMATION, created_at__lt=before)
    User.objects.filter(is_active=False, sign_up__in=stale).delete()


def _tell(user: User, what: str) -> None:
    if mail.configured() and user.email:
        url = links.absolute(f"{settings.LOGIN_URL}")
        mail.send_later(mail.written(user.email, what, person=user, url=url))
