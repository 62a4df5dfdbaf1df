"""Ends and restores the access of users on the word of the directory."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from django.db import transaction
from django.dispatch import Signal
from django.http import HttpRequest
from django.utils import timezone

from chatsite.accounts import sessions
from chatsite.accounts.models import ApiKey, DirectoryIdentity, User
from chatsite.audit.record import record

logger = logging.getLogger(__name__)

# Sent with ``user_ids`` after the accounts are disabled, so that packages above end what runs for
# these users. Receivers must not raise.
access_ended = Signal()


def disable(
    user: User,
    identity: DirectoryIdentity,
    *,
    reason: str,
    via: str,
    request: HttpRequest | None = None,
) -> None:
    """Disable the account and end its sessions, sockets, API keys, streams and running answers.

    Raises `LastAdministrator` and changes nothing if no active administrator would remain.
    """
    with transaction.atomic():
        user.is_active = False
        # Sessions do not work again when the account is enabled.
        user.bind_sessions(secrets.token_hex(32))
        user.save(update_fields=["is_active", "session_stamp"])
        DirectoryIdentity.objects.filter(pk=identity.pk).update(disabled_at=timezone.now())
        keys = _revoke_keys(user)
    record(
        "user.disabled",
        request=request,
        via=via,
        target=("user", str(user.pk), user.get_username()),
        source=identity.source,
        reason=reason,
        keys_revoked=keys,
    )


def enable(
    user: User,
    identity: DirectoryIdentity,
    *,
    via: str = "page",
    request: HttpRequest | None = None,
) -> bool:
    """Enable an account that the directory ``identity`` disabled; False if SCIM says otherwise.

    Revoked keys stay revoked.
    """
    others = user.identities.exclude(pk=identity.pk).filter(source=DirectoryIdentity.Source.SCIM)
    if others.exclude(disabled_at=None).exists():
        return False
    user.is_active = True
    user.save(update_fields=["is_active"])
    record(
        "user.enabled",
        request=request,
        via=via,
        target=("user", str(user.pk), user.get_username()),
        source=identity.source,
    )
    return True


def end_access(user: User) -> None:
    """End the sessions and revoke the keys of a user whose account gets another holder."""
    with transaction.atomic():
        sessions.end_all(user)
        _revoke_keys(user)


def _revoke_keys(user: User) -> int:
    own = ApiKey.objects.of(user).filter(revoked_at=None)
    return own.update(revoked_at=timezone.now())


def is_last_administrator(user: User) -> bool:
    """Return whether disabling the user would leave no active administrator."""
    if not (user.is_superuser and user.is_active):
        return False
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    return not others.exists()


def announce(user_id: Any) -> None:
    """Let other packages end what runs for a user who was disabled."""
    for _receiver, result in access_ended.send_robust(sender=None, user_ids=[user_id]):
        if isinstance(result, Exception):
            logger.error("Work of a disabled user can't be ended", extra={"error": result})
