"""Tokens of links that work once: their text is shown or sent once, only a hash is stored."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from chatsite.accounts.models import AccountLink, OneTimeLink, User
from chatsite.audit.record import record
from chatsite.env import in_url

PASSWORD_BY_MAIL = timedelta(hours=2)
PASSWORD_BY_ADMINISTRATOR = timedelta(days=1)
EMAIL_CONFIRMATION = timedelta(days=2)
_ANY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  (compared with, not bound)


def new_token() -> tuple[str, str]:
    """Return a token of 256 bits and the digest to store."""
    text = secrets.token_urlsafe(32)
    return text, digest(text)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def create(
    user: User,
    purpose: AccountLink.Purpose,
    lifetime: timedelta,
    *,
    by: User | None = None,
    email: str = "",
) -> str:
    """Save a link for ``user`` and return its token. Earlier ones of that purpose are revoked."""
    text, stored = new_token()
    now = timezone.now()
    with transaction.atomic():
        AccountLink.objects.filter(user=user, purpose=purpose, used_at=None).update(revoked_at=now)
        AccountLink.objects.create(
            digest=stored,
            user=user,
            purpose=purpose,
            email=email,
            created_by=by,
            expires_at=now + lifetime,
        )
    return text


def password_link(user: User, *, by: User | None, via: str = "page") -> str:
    """Create an administrator's link for a new password of ``user``; return its absolute URL.

    Valid for `PASSWORD_BY_ADMINISTRATOR`. Shown once: only its hash is stored.
    """
    text = create(user, AccountLink.Purpose.PASSWORD, PASSWORD_BY_ADMINISTRATOR, by=by)
    record("auth.password_link_created", user=by, via=via, target=target(user))
    return absolute(reverse("new_password", args=[text]))


def find(text: str, purpose: AccountLink.Purpose) -> AccountLink | None:
    """Return the usable link with this token, or None."""
    usable = AccountLink.objects.usable().filter(purpose=purpose)
    found: AccountLink | None = usable.select_related("user").filter(digest=digest(text)).first()
    return found


def use(link: OneTimeLink) -> bool:
    """Mark the link as used. Returns False if another request was first, or it was revoked."""
    rows = type(link)._default_manager.filter(
        pk=link.pk, used_at=None, revoked_at=None, expires_at__gt=timezone.now()
    )
    return bool(rows.update(used_at=timezone.now()))


def absolute(path: str, request: HttpRequest | None = None) -> str:
    """Return the URL of ``path`` that users open: at the configured origin, else the request's.

    A mail must not contain the address of a forged Host header, so the first origin of
    CHATSITE_ORIGINS is preferred; without one only this machine's names are allowed hosts.
    """
    if settings.ENV.origins:
        return f"{settings.ENV.origins[0]}{path}"
    if request is not None:
        return request.build_absolute_uri(path)
    host = settings.ENV.host
    name = "localhost" if host in _ANY_ADDRESS else in_url(host)
    return f"http://{name}:{settings.ENV.port}{path}"


def target(user: User) -> tuple[str, str, str]:
    """Return ``user`` as the target of an audit event."""
    return "user", str(user.pk), user.get_username()
