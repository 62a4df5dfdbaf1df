"""What follows from sign-ins and from accounts that are enabled. Connected by `accounts.apps`."""

from __future__ import annotations

from functools import partial
from typing import Any

from allauth.account.signals import user_logged_in
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from chatsite.accounts.directory import leavers, oidc
from chatsite.accounts.models import User


@receiver(user_logged_in)
def _keep_id_token(
    sender: type, request: HttpRequest, sociallogin: Any = None, **kwargs: Any
) -> None:
    """Keep the ID token with the session, for the sign-out at the provider."""
    if sociallogin is not None and (token := sociallogin.state.get("id_token")):
        request.session[oidc.ID_TOKEN_KEY] = token


@receiver(post_save, sender=User)
def _saved(
    sender: type[User],
    instance: User,
    created: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    """End the work of a user who was disabled, by whomever.

    Forget that the directory disabled an account once it is enabled.

    If an administrator disables it later, the directory must not enable it again.
    """
    if created:
        return
    if not instance.is_active:
        if getattr(instance, "_ends_sessions", False):
            transaction.on_commit(partial(leavers.announce, instance.pk), robust=True)
        return
    if update_fields is None or "is_active" in update_fields:
        instance.identities.exclude(disabled_at=None).update(disabled_at=None)
