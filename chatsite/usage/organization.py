"""What the organization decides about reports."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.utils import timezone

from chatsite.site_settings import current


def zone() -> ZoneInfo:
    """Return the time zone in which days begin."""
    return ZoneInfo(current().time_zone)


def min_group() -> int:
    """Return how many users figures must cover at least; 1 means that all are shown."""
    return current().usage_min_group


def per_user() -> bool:
    """Return whether administrators may see the usage of single users.

    Never while figures of small groups are suppressed: they could be added up from users.
    """
    return current().usage_per_user and min_group() <= 1


def today(now: datetime | None = None) -> date:
    return (now or timezone.now()).astimezone(zone()).date()


def start_of(day: date) -> datetime:
    """Return the instant at which a day begins, which is not 24 hours after the last one on DST."""
    return datetime.combine(day, time.min, tzinfo=zone())


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the local hour, in UTC.

    Arithmetic on instants keeps the two hours apart that a change of DST gives the same name.
    """
    local = moment.astimezone(zone())
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return moment.astimezone(UTC) - into
