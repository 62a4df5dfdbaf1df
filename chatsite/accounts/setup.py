"""The first administrator, made through a link that works once.

There is no default password and no first-come administrator: whoever starts the product reads
the link in its output, and only the link opens the form.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from django.conf import settings
from django.contrib.auth.forms import UserCreationForm
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from chatsite import secrets
from chatsite.accounts.models import User


class SetupForm(UserCreationForm):  # type: ignore[type-arg]
    """``username``, ``password1``, ``password2``, under the validators of every account."""

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)


def _token_path() -> Path:
    return Path(settings.DATA_DIR) / "run" / "setup_token"


def needed() -> bool:
    return not User.objects.filter(is_superuser=True, is_active=True).exists()


def setup_token() -> str | None:
    """The token of the link, made on demand; None once an active administrator exists."""
    if needed():
        return secrets.stored_key(_token_path(), size=24)
    _token_path().unlink(missing_ok=True)
    return None


def is_valid(token: str) -> bool:
    expected = setup_token()
    return expected is not None and hmac.compare_digest(expected.encode(), token.encode())


def create_first_administrator(form: SetupForm) -> User | None:
    """Saves the person of a valid ``form``; None when somebody else was first.

    The row of the user table's content type always exists. Locking it makes two browsers come
    one after the other on PostgreSQL; SQLite's transactions here lock at their start anyway.
    """
    kind = ContentType.objects.get_for_model(User)
    with transaction.atomic():
        ContentType.objects.select_for_update().get(pk=kind.pk)
        if not needed():
            return None
        user: User = form.save(commit=False)
        user.is_staff = user.is_superuser = True
        user.save()
    _token_path().unlink(missing_ok=True)
    return user
