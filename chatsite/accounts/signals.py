"""Ends sockets when a session ends: sign-out, new password, deactivation, deletion."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.dispatch import receiver
from django.http import HttpRequest

from chatsite.accounts import sessions
from chatsite.accounts.models import User

# What ends every session of a person when it changes. Django itself refuses the sessions at
# their next request; here it is only about the sockets that are open.
_FIELDS = frozenset({"password", "is_active"})


@receiver(user_logged_out)
def _signed_out(sender: type, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    key = request.session.session_key
    if user is not None and key:
        # Django sends this before it empties the session. A socket that is told asks the
        # database whether its session still exists, so it must be gone by then.
        request.session.flush()
        sessions.end(user.pk, key)


@receiver(pre_save, sender=User)
def _compare(
    sender: type[User], instance: User, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Notes on the instance whether its saving ends sessions."""
    instance._ends_sessions = False  # type: ignore[attr-defined]
    if instance._state.adding or (update_fields is not None and not _FIELDS & update_fields):
        return
    before = User.objects.filter(pk=instance.pk).values("password", "is_active").first()
    instance._ends_sessions = before is not None and (  # type: ignore[attr-defined]
        before["password"] != instance.password or (before["is_active"] and not instance.is_active)
    )


@receiver(post_save, sender=User)
def _saved(sender: type[User], instance: User, **kwargs: Any) -> None:
    if getattr(instance, "_ends_sessions", False):
        transaction.on_commit(partial(sessions.end, instance.pk), robust=True)


@receiver(post_delete, sender=User)
def _deleted(sender: type[User], instance: User, **kwargs: Any) -> None:
    transaction.on_commit(partial(sessions.end, instance.pk), robust=True)
