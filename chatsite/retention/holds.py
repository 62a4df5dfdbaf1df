"""Legal holds: whose data must be kept."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.retention.errors import OnHold, ReasonMissing
from chatsite.retention.models import REASON_CHARS, LegalHold


def held_users() -> QuerySet[User]:
    """Return the users whose data must be kept."""
    return User.objects.filter(
        Q(pk__in=LegalHold.objects.exclude(user=None).values("user"))
        | Q(groups__in=LegalHold.objects.exclude(group=None).values("group"))
    ).distinct()


def holds_of(user: User) -> QuerySet[LegalHold]:
    """Return the holds that apply to a user."""
    return LegalHold.objects.filter(Q(user=user) | Q(group__in=user.groups.all()))


def check(user: User) -> None:
    """Raise `OnHold` with the reason if the user's data must be kept."""
    if found := holds_of(user).first():
        raise OnHold(reason=found.reason.rstrip("."))


def place(
    reason: str,
    *,
    by: str,
    user: User | None = None,
    group: Group | None = None,
    request: HttpRequest | None = None,
) -> LegalHold:
    """Place a hold on a user or a group. Raises `ReasonMissing`."""
    reason = cleaned_reason(reason)
    hold = LegalHold.objects.create(user=user, group=group, reason=reason, created_by=by)
    record("retention.hold_placed", request=request, target=_target(hold), reason=reason)
    return hold


def lift(hold: LegalHold, reason: str, *, request: HttpRequest | None = None) -> None:
    """Lift a hold: what was deleted or has expired is purged by the next run."""
    reason = cleaned_reason(reason)
    target = _target(hold)
    hold.delete()
    record("retention.hold_lifted", request=request, target=target, reason=reason)


def cleaned_reason(reason: str) -> str:
    """Return a reason of a few characters at least, on one line. Raises `ReasonMissing`."""
    reason = " ".join(reason.replace("\x00", "").split())[:REASON_CHARS]
    if len(reason) < 3:
        raise ReasonMissing
    return reason


def _target(hold: LegalHold) -> tuple[str, str, str]:
    if hold.user is not None:
        return ("user", str(hold.user.pk), hold.user.get_username())
    return ("group", str(hold.group_id), str(hold.group))
