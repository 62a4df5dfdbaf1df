"""Counting ended generations into statistics, each exactly once.

A generation is counted and marked as counted in the same transaction, and all counting is
serialized by one row. So a crash loses nothing and repeats nothing, roll-ups may run at any time
and any number of times, and a generation that ends late is added to the period in which it was
requested. Those that are not counted yet are found by a partial index (`report.py` adds them to
what it shows).

The end of a request does not touch statistics: beat counts every minute (`tasks.py`), and before
conversations or users are deleted, what they leave uncounted is counted (`signals.py`).
"""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, TypeVar

from django.apps import apps as django_apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from chatsite.conversations.models import Generation, GenerationQuerySet, Via
from chatsite.usage import organization
from chatsite.usage.figures import SUMS, Figures, Request, of_cell
from chatsite.usage.models import DayCell, HourCell, Label, LabelKind, RollUp, Scope

log = logging.getLogger(__name__)

# Generations per transaction. SQLite accepts 32,766 parameters in a statement.
BATCH: Final = 5000
_PARAMETERS: Final = 4000
# After that only days are kept.
HOURS_KEPT: Final = timedelta(days=35)

_FIELDS: Final = (
    *("pk", "owner_id", "via", "api_key_id", "model", "state", "error", "timings"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "queued_at"),
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """The dimensions of a cell, without its period."""

    scope: str
    who: str
    model: str
    door: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An ended generation, as far as it is counted.

    ``owner`` is "" if the user was deleted before it ended; then it counts for all users only.
    """

    pk: uuid.UUID
    owner: str
    model: str
    door: str
    key: str
    queued_at: datetime
    request: Request


@dataclass(slots=True)
class Tally:
    """Figures by period and place, and the groups of users by day."""

    hours: dict[tuple[datetime, Place], Figures] = field(
        default_factory=lambda: defaultdict(Figures)
    )
    days: dict[tuple[date, Place], Figures] = field(default_factory=lambda: defaultdict(Figures))
    groups: dict[tuple[date, str], tuple[str, ...]] = field(default_factory=dict)

    def add(self, row: Row, hour: datetime | None, day: date) -> None:
        """Add a row to its day, and to its hour unless that is None."""
        places = [
            Place(Scope.ALL, "", row.model, row.door),
        ]
        if row.owner:
            places.append(Place(Scope.USER, row.owner, row.model, row.door, row.key))
            groups = self.groups.get((day, row.owner)) or ("",)
            places += [Place(Scope.GROUP, group, row.model, row.door) for group in groups]
        buckets = row.request.buckets()
        for place in places:
            self.days[day, place].add(row.request, buckets)
            if hour is not None:
                self.hours[hour, place].add(row.request, buckets)


def cell_id(period: date | datetime, place: Place) -> uuid.UUID:
    """Return the primary key of a cell, which makes a cell unique on every database."""
    parts = (period.isoformat(), *(getattr(place, name) for name in Place.__slots__))
    digest = blake2b("\0".join(parts).encode(), digest_size=16, person=b"chatsite usage")
    return uuid.UUID(bytes=digest.digest())


def rows(found: GenerationQuerySet) -> Iterator[Row]:
    """Read generations with the figures that are counted."""
    for pk, owner, via, key, model, state, error, timings, *tokens, queued_at in found.values_list(
        *_FIELDS
    ):
        prompt, cached, completion = (count or 0 for count in tokens)
        yield Row(
            pk=pk,
            owner=str(owner) if owner else "",
            model=model,
            door=via,
            key=str(key) if key else "",
            queued_at=queued_at,
            request=Request(
                outcome=state,
                prompt_tokens=prompt,
                cached_tokens=cached,
                completion_tokens=completion,
                waiting=timings.get("queue"),
                ttft=timings.get("ttft"),
                decode=timings.get("decode"),
                error=str((error or {}).get("code", "")),
                awaited=via not in {Via.TITLE, Via.KNOWLEDGE},
            ),
        )


def tally(found: Sequence[Row]) -> Tally:
    """Sum up rows that are not counted yet, as counting them would."""
    made = Tally()
    when = {row.pk: _day_of(row) for row in found}
    made.groups = _groups({(when[row.pk], row.owner) for row in found if row.owner})
    oldest = timezone.now() - HOURS_KEPT
    for row in found:
        # What `clean` would delete again is not written.
        hour = organization.hour_of(row.queued_at) if row.queued_at >= oldest else None
        made.add(row, hour, when[row.pk])
    return made


def count_ended(most: int | None = None) -> int:
    """Count all ended generations that are not counted yet, or ``most``; return their number."""
    counted = 0
    while most is None or counted < most:
        # Asked before the transaction, which locks all of SQLite.
        if not Generation.objects.uncounted().exists():
            break
        counted += _count_batch(BATCH if most is None else min(BATCH, most - counted))
    return counted


def clean(now: datetime | None = None) -> int:
    """Delete hours older than `HOURS_KEPT`, whose days remain; return their number."""
    before = (now or timezone.now()) - HOURS_KEPT
    return HourCell.objects.filter(start__lt=before).delete()[0]


@transaction.atomic
def _count_batch(size: int) -> int:
    RollUp.objects.get_or_create(pk=1)
    # Serializes counting. SQLite's transactions, which begin immediate, are serial anyway.
    RollUp.objects.select_for_update().get(pk=1)
    found = list(rows(Generation.objects.uncounted().order_by("queued_at")[:size]))
    if not found:
        return 0
    made = tally(found)
    _save_labels(found, made)
    _save(HourCell, "start", made.hours, {})
    _save(DayCell, "day", made.days, made.groups)
    for part in _chunks([row.pk for row in found]):
        Generation.objects.filter(pk__in=part).update(counted=True)
    RollUp.objects.filter(pk=1).update(completed_at=timezone.now())
    return len(found)


def _day_of(row: Row) -> date:
    return organization.today(row.queued_at)


def _groups(wanted: set[tuple[date, str]]) -> dict[tuple[date, str], tuple[str, ...]]:
    """Return the groups of users by day: as first counted on that day, else as they are now."""
    if not wanted:
        return {}
    days = {day for day, _owner in wanted}
    owners = sorted({owner for _day, owner in wanted})
    found: dict[tuple[date, str], tuple[str, ...]] = {}
    for part in _chunks(owners):
        known = DayCell.objects.filter(
            scope=Scope.USER, who__in=part, day__gte=min(days), day__lte=max(days)
        )
        found.update(
            ((day, who), tuple(groups.split()))
            for day, who, groups in known.values_list("day", "who", "groups").distinct()
        )
    missing = sorted({int(owner) for day, owner in wanted if (day, owner) not in found})
    now: dict[str, list[str]] = defaultdict(list)
    membership = get_user_model().groups.through
    for some in _chunks(missing):
        for user, group in membership.objects.filter(user_id__in=some).values_list(
            "user_id", "group_id"
        ):
            now[str(user)].append(str(group))
    for day, owner in wanted:
        found.setdefault((day, owner), tuple(sorted(now[owner], key=int)))
    return found


def current_names(kind: LabelKind, ids: Iterable[str]) -> dict[str, str]:
    """Return the names of those users, groups or keys that exist, by ID."""
    model, fields, name = _NAMED[kind]
    found: dict[str, str] = {}
    for part in _chunks(sorted({int(id) for id in ids})):
        rows = django_apps.get_model(model)._base_manager.filter(pk__in=part)
        for pk, *values in rows.values_list("pk", *fields):
            found[str(pk)] = name.format(*values).strip()[:200]
    return found


# Model, fields, and how its name is made of them.
_NAMED: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    LabelKind.USER: (settings.AUTH_USER_MODEL, ("username",), "{}"),
    LabelKind.GROUP: ("auth.Group", ("name",), "{}"),
    LabelKind.KEY: ("accounts.ApiKey", ("name", "prefix"), "{} {}…"),
}


def _save_labels(found: Sequence[Row], made: Tally) -> None:
    wanted = {
        LabelKind.USER: {row.owner for row in found if row.owner},
        LabelKind.GROUP: {group for groups in made.groups.values() for group in groups},
        LabelKind.KEY: {row.key for row in found if row.key},
    }
    changed: list[Label] = []
    for kind, ids in wanted.items():
        known: dict[str, str] = {}
        for part in _chunks(sorted(ids)):
            labels = Label.objects.filter(kind=kind, key__in=part)
            known.update(labels.values_list("key", "name"))
        changed += [
            Label(kind=kind, key=key, name=name)
            for key, name in current_names(kind, ids).items()
            if known.get(key) != name
        ]
    Label.objects.bulk_create(
        changed,
        update_conflicts=True,
        unique_fields=["kind", "key"],
        update_fields=["name"],
        batch_size=_PARAMETERS // 4,
    )


def _save(
    model: Any,
    period: str,
    made: dict[Any, Figures],
    groups: dict[tuple[date, str], tuple[str, ...]],
) -> None:
    """Add figures to the cells of the database. The caller holds the lock of `RollUp`."""
    ids = {cell_id(when, place): (when, place) for when, place in made}
    for part in _chunks(list(ids)):
        known = model.objects.in_bulk(part)
        cells = []
        for id in part:
            when, place = ids[id]
            figures = made[when, place]
            if id in known:
                before = of_cell(known[id])
                before.merge(figures)
                figures = before
            cell = model(id=id, **{period: when})
            for name in Place.__slots__:
                setattr(cell, name, getattr(place, name))
            for name in SUMS:
                setattr(cell, name, getattr(figures, name))
            cell.detail = figures.detail()
            if model is DayCell and place.scope == Scope.USER:
                cell.groups = " ".join(groups.get((when, place.who), ()))
            cells.append(cell)
        model.objects.bulk_create(
            cells,
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=[*SUMS, "detail"],
            batch_size=_PARAMETERS // 20,
        )


def _chunks(values: Sequence[T]) -> Iterable[Sequence[T]]:
    for at in range(0, len(values), _PARAMETERS):
        yield values[at : at + _PARAMETERS]
