"""Users by the name or the email address that they sign in with, ignoring case."""

from __future__ import annotations

from django.db.models import Q

from chatsite.accounts.models import User


def find(name: str) -> User | None:
    """Return the user with this username, or else the only one with this email address."""
    name = name.strip()
    if not name or "\0" in name:
        return None
    if user := User.objects.filter(username__iexact=name).first():
        return user
    return by_email(name)


def by_email(email: str) -> User | None:
    """Return the only user with this address; None if several have it: none of them is meant."""
    if "@" not in email or "\0" in email:
        return None
    found = list(User.objects.filter(email__iexact=email.strip())[:2])
    return found[0] if len(found) == 1 else None


def is_taken(name: str, *, besides: User | None = None) -> bool:
    """Return whether someone signs in with ``name``, as a username or an email address."""
    found = User.objects.filter(Q(username__iexact=name) | Q(email__iexact=name))
    if besides is not None and besides.pk is not None:
        found = found.exclude(pk=besides.pk)
    return found.exists()
