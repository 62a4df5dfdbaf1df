"""The first administrator, created through a single-use link.

There is no default password, and the first visitor does not become administrator: the operator
who starts the product finds the link in its output, and only the link opens the form.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.forms import UserCreationForm
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from chatsite import secrets
from chatsite.accounts import roles
from chatsite.accounts.models import User
from chatsite.accounts.roles import Role


class SetupForm(UserCreationForm):  # type: ignore[type-arg]
    """The fields of the first administrator, with the validators of every account."""

    class Meta(UserCreationForm.Meta):
        model = User
        fields: ClassVar[tuple[str, ...]] = ("username",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].help_text = ""
        self.fields["password1"].help_text = _("At least 8 characters, not a common password.")
        self.fields["password2"].label = _("Repeat the password")
        self.fields["password2"].help_text = ""

    def validate_password_for_user(self, user: User, password_field_name: str = "") -> None:
        """Check the password even if its repetition differs, to report all errors together."""
        field = "password2" if "password2" in self.cleaned_data else "password1"
        super().validate_password_for_user(user, field)  # type: ignore[misc]  # newer than its stubs


def _token_path() -> Path:
    return Path(settings.DATA_DIR) / "run" / "setup_token"


def needed() -> bool:
    return not roles.has_administrator()


def setup_token() -> str | None:
    """Return the token of the link, created on demand; None if an active administrator exists."""
    if needed():
        return secrets.stored_key(_token_path(), size=24)
    _token_path().unlink(missing_ok=True)
    return None


def is_valid(token: str) -> bool:
    expected = setup_token()
    return expected is not None and hmac.compare_digest(expected.encode(), token.encode())


def create_first_administrator(form: SetupForm) -> User | None:
    """Save the user of a valid ``form``; None if another request was first.

    The row of the user table's content type always exists. Locking it serializes concurrent
    requests on PostgreSQL; SQLite transactions lock at their start anyway.
    """
    kind = ContentType.objects.get_for_model(User)
    with transaction.atomic():
        ContentType.objects.select_for_update().get(pk=kind.pk)
        if not needed():
            return None
        user: User = form.save(commit=False)
        user.role = Role.ADMINISTRATOR
        user.save()
    _token_path().unlink(missing_ok=True)
    return user
