"""Quotas: reserve at admission, settle at the end, and tell what is left.

A request reserves the most that it may take, and its end replaces that by what it took. So open
requests never exceed a quota together, whatever runs in parallel. Windows are calendar hours, days
and months of the site's time zone: all of a quota renews at one exact time. A request counts
in the window in which it was admitted.

Without quotas nothing here touches the database. A failing database raises `DatabaseError`: the
request is refused with a temporary error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, worded
from chatsite.policy import snapshot
from chatsite.policy.decide import Period, Policy, Quota, Subject
from chatsite.policy.models import Consumption, Reservation
from chatsite.site_settings import current

# Seconds after which a retry is worthwhile when open requests hold what is left.
_OPEN_RETRY_SECONDS: Final = 5
# The used share of a quota from which its user is warned.
WARN_SHARE: Final = 0.8
# Windows that have ended are kept this long.
_KEPT: Final = timedelta(days=62)


class QuotaExceeded(ChatsiteError):
    """``renews_at`` is ISO 8601, ``retry_after`` in seconds until then."""

    code = "quota_exceeded"
    status = 429
    message: str | Promise = _("Your quota is used up until it renews.")


class QuotaReserved(ChatsiteError):
    """What is left is held by open requests; their end may free it."""

    code = "quota_reserved"
    status = 429
    permanent = False
    message = _(
        "Your open requests hold what is left of your quota. Wait for one of them to end, and try "
        "again."
    )


_USED_UP: dict[tuple[str, str, bool], Promise] = {
    ("tokens", "hour", False): _(
        "You have used your quota of %(limit)s tokens per hour. It renews at %(renews)s."
    ),
    ("tokens", "day", False): _(
        "You have used your quota of %(limit)s tokens per day. It renews at %(renews)s."
    ),
    ("tokens", "month", False): _(
        "You have used your quota of %(limit)s tokens per month. It renews at %(renews)s."
    ),
    ("requests", "hour", False): _(
        "You have used your quota of %(limit)s requests per hour. It renews at %(renews)s."
    ),
    ("requests", "day", False): _(
        "You have used your quota of %(limit)s requests per day. It renews at %(renews)s."
    ),
    ("requests", "month", False): _(
        "You have used your quota of %(limit)s requests per month. It renews at %(renews)s."
    ),
    ("tokens", "hour", True): _(
        "The shared quota of %(limit)s tokens per hour is used up. It renews at %(renews)s."
    ),
    ("tokens", "day", True): _(
        "The shared quota of %(limit)s tokens per day is used up. It renews at %(renews)s."
    ),
    ("tokens", "month", True): _(
        "The shared quota of %(limit)s tokens per month is used up. It renews at %(renews)s."
    ),
    ("requests", "hour", True): _(
        "The shared quota of %(limit)s requests per hour is used up. It renews at %(renews)s."
    ),
    ("requests", "day", True): _(
        "The shared quota of %(limit)s requests per day is used up. It renews at %(renews)s."
    ),
    ("requests", "month", True): _(
        "The shared quota of %(limit)s requests per month is used up. It renews at %(renews)s."
    ),
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The tokens that a request may take.

    ``most``: an upper bound of prompt and answer. ``least``: a likely lower bound of the prompt
    with the first token of an answer. A request for which less than ``most`` is left gets what is
    left as its budget, if that is at least ``least`` and ``divisible``.
    """

    most: int
    least: int
    divisible: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """A quota of a user, in the window that contains the present.

    ``reserved`` is held by open requests. ``renews_at`` is the end of the window.
    """

    quota: Quota
    used: int
    reserved: int
    renews_at: datetime

    @property
    def left(self) -> int:
        return max(0, self.quota.amount - self.used - self.reserved)

    @property
    def warn_at(self) -> int:
        """Return the used amount from which the user is warned."""
        return math.ceil(self.quota.amount * WARN_SHARE)

    @property
    def renews_here(self) -> datetime:
        """Return the end of the window in the site's time zone."""
        return self.renews_at.astimezone(_zone())


def _zone() -> ZoneInfo:
    return ZoneInfo(current().time_zone)


def window(period: Period, moment: datetime) -> tuple[datetime, datetime]:
    """Return start and end (exclusive) of the calendar window that contains ``moment``, in UTC."""
    zone = _zone()
    local = moment.astimezone(zone)
    if period == "hour":
        within = timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        start = moment.astimezone(UTC) - within
        return start, start + timedelta(hours=1)
    first = local.date() if period == "day" else local.date().replace(day=1)
    if period == "day":
        after = first + timedelta(days=1)
    else:
        after = (first + timedelta(days=32)).replace(day=1)
    return _midnight(first, zone), _midnight(after, zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def apply_to(user: Any) -> bool:
    """Return whether any quota applies to the user (or user's ID)."""
    policy = snapshot.current()
    return bool(policy.quotas) and bool(policy.quotas_of(snapshot.subject(user)))


def reserve(generation: UUID | str, user: int, estimate: Estimate) -> int | None:
    """Reserve for a generation; return its budget in tokens, None if no quota counts tokens.

    Idempotent: a generation that has a reservation keeps it. Raises `QuotaExceeded` or
    `QuotaReserved`; nothing is reserved then.
    """
    quotas = snapshot.current().quotas_of(snapshot.subject(user))
    if not quotas:
        return None
    now = timezone.now()
    with transaction.atomic():
        rows = locked_rows(quotas, user, now)
        if (held := Reservation.objects.filter(generation=generation).first()) is not None:
            return held.budget
        budget = estimate.most
        for quota in quotas:
            row = rows[quota.id]
            free = quota.amount - row.used - row.reserved
            wanted, least = 1, 1
            if quota.unit == "tokens":
                wanted, least = estimate.most, estimate.least
                least = least if estimate.divisible else wanted
            if free >= wanted:
                continue
            if free < least:
                raise _refusal(quota, row, least, now)
            budget = min(budget, free)
        counted = any(quota.unit == "tokens" for quota in quotas)
        made = []
        for quota in quotas:
            row = rows[quota.id]
            amount = budget if quota.unit == "tokens" else 1
            Consumption.objects.filter(pk=row.pk).update(reserved=F("reserved") + amount)
            made.append(
                Reservation(
                    generation=generation,
                    consumption=row,
                    amount=amount,
                    budget=budget if counted else None,
                )
            )
        Reservation.objects.bulk_create(made)
    return budget if counted else None


def settle(generation: UUID | str, tokens: int) -> None:
    """Replace the reservation of a generation by what it took.

    A request that took no tokens costs nothing. Idempotent; call it in the transaction that saves
    the end.
    """
    if not Reservation.objects.filter(generation=generation).exists():
        return
    with transaction.atomic():
        held = Reservation.objects.filter(generation=generation)
        held = held.select_related("consumption__quota").select_for_update(of=("self",))
        # In the order in which `reserve` locks them.
        for one in list(held.order_by("consumption_id")):
            used = tokens if one.consumption.quota.unit == "tokens" else int(tokens > 0)
            if Reservation.objects.filter(pk=one.pk).delete()[0]:
                Consumption.objects.filter(pk=one.consumption_id).update(
                    reserved=F("reserved") - one.amount, used=F("used") + used
                )


def release(generation: UUID | str) -> None:
    """Give back the reservation of a generation that was not queued."""
    settle(generation, 0)


def charge(user: int, tokens: int) -> None:
    """Count tokens of work that was not admitted, such as a title. No request is counted."""
    quotas = [
        quota
        for quota in snapshot.current().quotas_of(snapshot.subject(user))
        if quota.unit == "tokens"
    ]
    if not quotas or tokens <= 0:
        return
    with transaction.atomic():
        for row in locked_rows(quotas, user, timezone.now()).values():
            Consumption.objects.filter(pk=row.pk).update(used=F("used") + tokens)


def states(user: Any) -> list[State]:
    """Return the state of each quota that applies to the user (or user's ID), by ID."""
    return states_of(snapshot.current(), snapshot.subject(user))


def states_of(policy: Policy, subject: Subject) -> list[State]:
    """Return the states for a subject; for that of a group only those of shared pots."""
    quotas = policy.quotas_of(subject)
    if subject.user is None:
        quotas = [quota for quota in quotas if quota.shared]
    if not quotas:
        return []
    now = timezone.now()
    known = {row.quota_id: row for row in _rows(quotas, subject.user or 0, now)}
    found = []
    for quota in quotas:
        row = known.get(quota.id)
        _start, end = window(quota.period, now)
        found.append(State(quota, row.used if row else 0, row.reserved if row else 0, end))
    return found


def tightest(found: Iterable[State], unit: str) -> State | None:
    """Return the state with the least left of those that count ``unit``; the latest to renew."""
    of_unit = [state for state in found if state.quota.unit == unit]
    return min(of_unit, key=lambda state: (state.left, -state.renews_at.timestamp()), default=None)


def seconds_until(moment: datetime) -> int:
    """Return the whole seconds until ``moment``, at least 1."""
    return max(1, math.ceil((moment - timezone.now()).total_seconds()))


def delete_old() -> None:
    """Delete the consumption of windows that ended long ago."""
    Consumption.objects.filter(start__lt=timezone.now() - _KEPT).delete()


def _refusal(quota: Quota, row: Consumption, least: int, now: datetime) -> ChatsiteError:
    if quota.amount - row.used >= least:
        return QuotaReserved(
            unit=quota.unit,
            period=quota.period,
            limit=quota.amount,
            retry_after=_OPEN_RETRY_SECONDS,
        )
    _start, end = window(quota.period, now)
    return _exceeded(quota, row.used, end)


def _exceeded(quota: Quota, used: int, end: datetime) -> QuotaExceeded:
    zone = _zone()
    error = QuotaExceeded(
        unit=quota.unit,
        period=quota.period,
        shared=quota.shared,
        limit=quota.amount,
        used=used,
        renews_at=end.isoformat(),
        renews=f"{end.astimezone(zone):%Y-%m-%d %H:%M %Z}",
        retry_after=seconds_until(end),
    )
    error.message = worded(_USED_UP[quota.unit, quota.period, quota.shared], error.details)
    return error


def _rows(quotas: Iterable[Quota], user: int, now: datetime) -> Any:
    wanted = (
        Q(quota=quota.id, pot=quota.pot(user), start=window(quota.period, now)[0])
        for quota in quotas
    )
    return Consumption.objects.filter(reduce(Q.__or__, wanted))


def locked_rows(quotas: list[Quota], user: int, now: datetime) -> Mapping[int, Consumption]:
    """Return the consumption rows by quota, created where missing and locked in one order."""
    found = _rows(quotas, user, now).select_for_update().order_by("pk")
    rows = {row.quota_id: row for row in found}
    missing = [quota for quota in quotas if quota.id not in rows]
    if missing:
        Consumption.objects.bulk_create(
            [
                Consumption(
                    quota_id=quota.id,
                    pot=quota.pot(user),
                    start=window(quota.period, now)[0],
                )
                for quota in missing
            ],
            ignore_conflicts=True,
        )
        rows = {row.quota_id: row for row in found.all()}
    return rows
