"""Record sign-ins; end sessions and close sockets when a user changes; keep roles up to date.

A session ends by sign-out, a new password, deactivation or deletion of the user. The effective role
of users follows the memberships and the roles of groups.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from allauth.account import signals as account_signals
from allauth.account.authentication import get_authentication_records
from allauth.mfa import signals as mfa_signals
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

from chatsite.accounts import notices, roles, second_factor, sessions, throttle
from chatsite.accounts.links import target
from chatsite.accounts.models import GroupProfile, User
from chatsite.audit.record import record

# Changes to these fields end all sessions of a user.
_FIELDS = frozenset({"password", "session_stamp", "is_active"})


@receiver(account_signals.user_logged_in)
def _remember_device(
    sender: type, request: HttpRequest, response: HttpResponse, user: User, **kwargs: Any
) -> None:
    throttle.remember_device(request, response, user.get_username())


@receiver(user_logged_in)
def _signed_in(sender: type, request: HttpRequest, user: User, **kwargs: Any) -> None:
    sessions.start(request, user)
    methods = [_method(one, user) for one in get_authentication_records(request, user)]
    record("auth.login", request=request, user=user, methods=methods)


def _method(authentication: Any, user: User) -> str:
    """Return how the user proved their identity, by the names of the directory where it did."""
    name = str(authentication["method"])
    if name == "socialaccount":
        return "oidc"
    by_directory = getattr(user, "backend", "").endswith("directory.ldap.Backend")
    return "ldap" if name == "password" and by_directory else name


@receiver(user_logged_out)
def _signed_out(sender: type, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    key = request.session.session_key
    if user is not None and key:
        # Django sends this signal before it deletes the session. A notified socket checks whether
        # its session still exists, so it must be deleted before.
        request.session.flush()
        user.browser_sessions.filter(session_key=key).delete()
        sessions.end(user.pk, key)
        record("auth.logout", request=request, user=user)


@receiver(account_signals.password_changed)
def _password_changed(sender: type, request: HttpRequest, user: User, **kwargs: Any) -> None:
    sessions.start(request, user)  # the session has a new key
    record("auth.password_changed", request=request, user=user, target=target(user))
    notices.send(user, notices.Notice.PASSWORD_CHANGED)


@receiver(mfa_signals.authenticator_added)
def _factor_added(
    sender: type, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    record("mfa.added", request=request, user=user, target=target(user), type=authenticator.type)
    if authenticator.type != Authenticator.Type.RECOVERY_CODES:
        notices.send(user, notices.Notice.FACTOR_ADDED)


@receiver(mfa_signals.authenticator_removed)
def _factor_removed(
    sender: type, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    record("mfa.removed", request=request, user=user, target=target(user), type=authenticator.type)
    if authenticator.type != Authenticator.Type.RECOVERY_CODES:
        notices.send(user, notices.Notice.FACTOR_REMOVED)


@receiver(mfa_signals.authenticator_reset)
def _codes_generated(sender: type, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record("mfa.codes_generated", request=request, user=user, target=target(user))


@receiver(mfa_signals.authenticator_used)
def _factor_used(
    sender: type, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        authenticator.refresh_from_db(fields=["data"])  # which has the used code
        left = len(authenticator.wrap().get_unused_codes())
        record("mfa.recovery_code_used", request=request, user=user, target=target(user), left=left)
        notices.send(user, notices.Notice.RECOVERY_CODE_USED)


@receiver(mfa_signals.authentication_failed)
def _factor_failed(sender: type, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record(
        "auth.login_failed",
        request=request,
        user=user,
        target=target(user),
        outcome="failed",
        reason="wrong_code",
    )


@receiver(pre_save, sender=User)
def _compare(
    sender: type[User], instance: User, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Note on the instance whether saving it ends sessions."""
    instance._ends_sessions = False  # type: ignore[attr-defined]
    if instance._state.adding or (update_fields is not None and not _FIELDS & update_fields):
        return
    before = User.objects.filter(pk=instance.pk).first()
    # Not the hash of the password, which a sign-in may upgrade.
    instance._ends_sessions = before is not None and (  # type: ignore[attr-defined]
        before.get_session_auth_hash() != instance.get_session_auth_hash()
        or (before.is_active and not instance.is_active)
    )


@receiver(post_save, sender=User)
def _saved(sender: type[User], instance: User, **kwargs: Any) -> None:
    if getattr(instance, "_ends_sessions", False):
        sessions.delete_all(instance, keep=instance.kept_session)


@receiver(post_delete, sender=User)
def _deleted(sender: type[User], instance: User, **kwargs: Any) -> None:
    # Django deletes in a transaction, which this error rolls back. The signals of several users
    # are sent after all are deleted.
    if instance.is_superuser and instance.is_active and not roles.has_administrator():
        raise roles.LastAdministrator
    transaction.on_commit(partial(sessions.end, instance.pk), robust=True)


@receiver(post_save, sender=GroupProfile)
def _group_changed(sender: type[GroupProfile], **kwargs: Any) -> None:
    second_factor.groups.forget()


@receiver(post_save, sender=Group)
def _group_saved(sender: type[Group], instance: Group, created: bool, **kwargs: Any) -> None:
    if created and not kwargs.get("raw"):
        GroupProfile.objects.get_or_create(group=instance)


@receiver(pre_delete, sender=Group)
def _group_deleting(sender: type[Group], instance: Group, **kwargs: Any) -> None:
    instance._member_ids = _members(instance.pk)  # type: ignore[attr-defined]


@receiver(post_delete, sender=Group)
def _group_deleted(sender: type[Group], instance: Group, **kwargs: Any) -> None:
    roles.refresh(getattr(instance, "_member_ids", ()))


@receiver(m2m_changed, sender=User.groups.through)
def _membership_changed(
    sender: type,
    instance: User | Group,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    **kwargs: Any,
) -> None:
    """Refresh the users whose memberships changed. ``instance`` is a group if ``reverse``."""
    if reverse:
        if action == "pre_clear":
            instance._member_ids = _members(instance.pk)  # type: ignore[union-attr]
        elif action == "post_clear":
            roles.refresh(getattr(instance, "_member_ids", ()))
    if action in {"post_add", "post_remove"}:
        roles.refresh(pk_set or () if reverse else [instance.pk])
    elif action == "post_clear" and not reverse:
        roles.refresh([instance.pk])
    if not reverse and action.startswith("post_"):
        instance.refresh_from_db(fields=["role", "effective_role", "is_staff", "is_superuser"])


def _members(group_id: Any) -> list[Any]:
    return list(User.objects.filter(groups=group_id).values_list("pk", flat=True))
