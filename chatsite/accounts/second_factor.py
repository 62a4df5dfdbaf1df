"""Second factors: who must have one, and how an administrator resets them.

A user who must have one and has none can do nothing but set one up: pages redirect (`middleware`),
sockets are closed (`identity`). Exempt are sessions of an identity provider, which has second
factors of its own, and API keys, since they were created from a session that had met the
requirement, or before it existed: a program must not stop at a change of policy. Administrators
can revoke keys.
"""

from __future__ import annotations

import time
from typing import Any, Final

from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.models import Authenticator

from chatsite.accounts import notices, sessions
from chatsite.accounts.links import target
from chatsite.accounts.models import GroupProfile, User
from chatsite.audit.record import record
from chatsite.site_settings import current

# What counts as a second factor; recovery codes only replace one.
FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


# Seconds until a process notices that a group requires a second factor.
_LIFETIME: Final = 5.0


class _Groups:
    """The IDs of groups that require a second factor, cached: no query where none does."""

    def __init__(self) -> None:
        self._ids: frozenset[int] = frozenset()
        self._expires = 0.0

    def ids(self) -> frozenset[int]:
        if time.monotonic() >= self._expires:
            found = GroupProfile.objects.filter(mfa_required=True)
            self._ids = frozenset(found.values_list("group_id", flat=True))
            self._expires = time.monotonic() + _LIFETIME
        return self._ids

    def forget(self) -> None:
        self._expires = 0.0


groups = _Groups()


def possible() -> bool:
    """Return whether anyone must have a second factor. Costs no query but every few seconds."""
    return current().mfa_required != "nobody" or bool(groups.ids())


def required(user: User) -> bool:
    """Return whether a site setting or a group of ``user`` requires a second factor."""
    match current().mfa_required:
        case "everyone":
            return True
        case "administrators" if user.is_staff or user.is_superuser:
            return True
    ids = groups.ids()
    return bool(ids) and user.groups.filter(pk__in=ids).exists()


def exists(user: User) -> bool:
    return bool(Authenticator.objects.filter(user_id=user.pk, type__in=FACTORS).exists())


def must_set_up(user: User, session: Any) -> bool:
    """Return whether ``user`` must set up a second factor before anything else."""
    if not required(user) or exists(user):
        return False
    records = session.get(AUTHENTICATION_METHODS_SESSION_KEY) or []
    return not any(one.get("method") == "socialaccount" for one in records)


def reset(user: User, *, by: User | None, via: str = "page") -> int:
    """Remove all second factors of ``user``, who lost them, and end their sessions.

    Returns the number of removed factors.
    """
    found = Authenticator.objects.filter(user_id=user.pk)
    count: int = found.filter(type__in=FACTORS).count()
    found.delete()
    sessions.end_all(user, by=by, via=via)
    record("mfa.reset", user=by, via=via, target=target(user), factors=count)
    notices.send(user, notices.Notice.FACTORS_RESET)
    return count
