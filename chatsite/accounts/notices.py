"""Notices to users about the security of their account, by mail where it is configured."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import mail
from chatsite.accounts.models import User


class Notice(models.TextChoices):
    PASSWORD_CHANGED = "password_changed", _("Your password was changed")
    FACTOR_ADDED = "factor_added", _("A second factor was added to your account")
    FACTOR_REMOVED = "factor_removed", _("A second factor was removed from your account")
    FACTORS_RESET = "factors_reset", _("An administrator removed your second factors")
    RECOVERY_CODE_USED = "recovery_code_used", _("A recovery code was used to sign in")


def send(user: User, notice: Notice) -> None:
    """Send the notice in the background. Does nothing without a mail server or an address."""
    if mail.configured() and user.email:
        written = mail.written(
            user.email, "notice", person=user, what=notice.label, time=timezone.now()
        )
        mail.send_later(written)
