"""Reports: figures of a period by model, door, group and user, and a user's own.

Finished statistics come from cells, and what is not counted yet from generations, which the same
code sums up (`rollup.tally`), so a report is complete at any time. Only if more than `LIVE_MOST`
requests are not counted, the rest is left out and its number is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from django.db.models import Q, QuerySet, Sum
from django.utils import timezone
from django.utils.text import capfirst

from chatsite.accounts.models import User
from chatsite.conversations.models import Generation, Via
from chatsite.usage import organization, rollup, suppression
from chatsite.usage.figures import SUMS, Figures, total
from chatsite.usage.models import DayCell, HourCell, Label, LabelKind, RollUp, Scope

LIVE_MOST: Final = 5000
# Longer periods are shown by day.
_HOURLY_DAYS: Final = 2
DAYS_MOST: Final = 3660
_ATTEMPTS: Final = 3

By = Literal["model", "door", "group", "user"]
Read = TypeVar("Read")
BY: Final[tuple[By, ...]] = ("model", "group", "user", "door")


class NotReported(Exception):
    """The organization does not allow this report; ``args[0]`` is a reason for programs."""


@dataclass(frozen=True)
class Period:
    """Days in the time zone of the organization, both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def previous(self) -> Period:
        """Return the period of the same length before this one."""
        return Period(self.first - timedelta(days=self.days), self.first - timedelta(days=1))

    @property
    def hourly(self) -> bool:
        """Return whether it is shown by hour: it is short, and its hours are still kept."""
        kept = timezone.now() - rollup.HOURS_KEPT
        return self.days <= _HOURLY_DAYS and organization.start_of(self.first) >= kept

    def bounds(self) -> tuple[datetime, datetime]:
        """Return its first instant and the one after its last."""
        return (
            organization.start_of(self.first),
            organization.start_of(self.last + timedelta(days=1)),
        )


@dataclass(frozen=True)
class Filter:
    """What a report is limited to; "" is everything. ``group`` and ``user`` are IDs."""

    model: str = ""
    door: str = ""
    group: str | None = None
    user: str = ""

    def __bool__(self) -> bool:
        return bool(self.model or self.door or self.user) or self.group is not None


NO_FILTER: Final = Filter()


@dataclass
class Line:
    """One line of a table. Without ``figures`` it is hidden, since it covers too few users."""

    key: str
    name: str
    figures: Figures | None
    users: int | None


@dataclass
class Point:
    """Figures of the hour or day that begins ``at``; without ``figures`` it is hidden."""

    at: datetime
    figures: Figures | None


@dataclass
class Report:
    """A report as far as it may be shown.

    ``least`` is the number of users that each figure covers at least. ``uncounted`` requests are
    not in the figures yet.
    """

    period: Period
    filter: Filter
    least: int
    total: Line
    before: Line
    points: list[Point]
    tables: dict[By, list[Line]]
    uncounted: int
    source: _Source = field(repr=False)
    _detailed: set[tuple[By, str]] = field(default_factory=set)

    @property
    def empty(self) -> bool:
        return self.total.users == 0

    def add_percentiles(self, by: By, lines: Iterable[Line]) -> None:
        """Add percentiles to lines of groups or users, whose tables are made without them."""
        if by in {"group", "user"}:
            missing = [line for line in lines if (by, line.key) not in self._detailed]
            self._detailed |= {(by, line.key) for line in missing}
            self.source.add_percentiles(Scope.GROUP if by == "group" else Scope.USER, missing)


def build(period: Period, wanted: Filter = NO_FILTER, tables: Iterable[By] = BY) -> Report:
    """Return the report of a period.

    Raises `NotReported` for single users where the organization does not allow them, and for any
    filter while small groups are hidden: tables of two dimensions would reveal them.
    """
    least = organization.min_group()
    if wanted.user and not organization.per_user():
        raise NotReported("no_users")
    if wanted and least > 1:
        raise NotReported("no_filters")
    if wanted.user and wanted.group is not None:
        wanted = replace(wanted, group=None)
    return _unchanged(lambda: _build(period, wanted, tuple(tables), least))


def _build(period: Period, wanted: Filter, tables: tuple[By, ...], least: int) -> Report:
    source = _Source(period, wanted)
    report = Report(
        period=period,
        filter=wanted,
        least=least,
        total=source.total(least),
        before=_Source(period.previous, wanted, source.live).total(least),
        points=source.points(least),
        tables={},
        uncounted=source.live.uncounted,
        source=source,
    )
    makers: dict[By, Callable[[int], list[Line]]] = {
        "model": lambda least: source.split("model", least),
        "door": lambda least: source.split("door", least),
        "group": source.groups,
        "user": lambda _least: source.users_table(),
    }
    for by in tables:
        if by == "user" and not organization.per_user():
            continue
        if by in {"group", "user"} and wanted.user:
            continue
        if by == "group" and wanted.group is not None:
            continue
        if report.total.figures is None:
            report.tables[by] = []
        else:
            report.tables[by] = makers[by](least)
    return report


@dataclass
class Own:
    """A user's own usage."""

    period: Period
    total: Figures
    points: list[Point]
    models: list[Line]
    keys: list[Line]
    uncounted: int


def own(user: int, period: Period) -> Own:
    """Return a user's own usage, which is never hidden. ``keys`` has a line for the chat too."""
    return _unchanged(lambda: _own(user, period))


def _own(user: int, period: Period) -> Own:
    source = _Source(period, Filter(user=str(user)))
    by_key: dict[str, Figures] = defaultdict(Figures)
    for cell in source.cells:
        by_key[cell.key or f"door:{cell.door}"].merge(cell.figures)
    names = _names(LabelKind.KEY, by_key)
    doors = {f"door:{door}": name for door, name in door_names().items()}
    keys = [
        Line(key, names.get(key) or doors.get(key, key), figures, 1)
        for key, figures in by_key.items()
    ]
    return Own(
        period=period,
        total=total(cell.figures for cell in source.cells),
        points=source.points(1),
        models=source.split("model", 1),
        keys=_sorted(keys),
        uncounted=source.live.uncounted,
    )


def _unchanged(read: Callable[[], Read]) -> Read:
    """Read again if a roll-up was committed meanwhile: it moves requests from rows to cells."""
    for _attempt in range(_ATTEMPTS):
        before = _last_roll_up()
        found = read()
        if _last_roll_up() == before:
            break
    return found


def _last_roll_up() -> datetime | None:
    return RollUp.objects.values_list("completed_at", flat=True).first()


@dataclass(slots=True)
class _Cell:
    at: date | datetime
    model: str
    door: str
    key: str
    figures: Figures


class _Live:
    """Requests of a period that are not counted yet, summed up."""

    def __init__(self, period: Period, user: str = "") -> None:
        begin, end = period.bounds()
        found = Generation.objects.uncounted().filter(queued_at__gte=begin, queued_at__lt=end)
        if user:
            found = found.of(User(pk=int(user)))
        rows = list(rollup.rows(found.order_by("queued_at")[: LIVE_MOST + 1]))
        self.uncounted = found.count() - LIVE_MOST if len(rows) > LIVE_MOST else 0
        self.tally = rollup.tally(rows[:LIVE_MOST])

    def days(self, period: Period) -> Iterator[tuple[date, rollup.Place, Figures]]:
        for (day, place), figures in self.tally.days.items():
            if period.first <= day <= period.last:
                yield day, place, figures

    def groups_of(self, day: date, user: str) -> tuple[str, ...]:
        return self.tally.groups.get((day, user), ())


class _Source:
    """What a report reads: the cells of a filter, and the users behind them."""

    def __init__(self, period: Period, wanted: Filter, live: _Live | None = None) -> None:
        self.period = period
        self.wanted = wanted
        both = Period(period.previous.first, period.last)
        self.live = live or _Live(both, wanted.user)
        if wanted.user:
            self._scope, self._who = Scope.USER, wanted.user
        elif wanted.group is not None:
            self._scope, self._who = Scope.GROUP, wanted.group
        else:
            self._scope, self._who = Scope.ALL, ""
        self.cells = list(self._read())
        self._combinations: set[tuple[str, str, str, str]] | None = None

    def _read(self) -> Iterator[_Cell]:
        found = self._days(self._scope).filter(who=self._who)
        fields = ("day", "model", "door", "key", "detail", *SUMS)
        for day, model, door, key, detail, *sums in found.values_list(*fields):
            figures = Figures(**dict(zip(SUMS, sums, strict=True)))
            figures.take_detail(detail)
            yield _Cell(day, model, door, key, figures)
        for day, place, figures in self.live.days(self.period):
            if self._matches(place, self._scope) and place.who == self._who:
                yield _Cell(day, place.model, place.door, place.key, figures)

    def _days(self, scope: Scope) -> QuerySet[DayCell]:
        found = DayCell.objects.filter(
            scope=scope, day__gte=self.period.first, day__lte=self.period.last
        )
        if self.wanted.model:
            found = found.filter(model=self.wanted.model)
        if self.wanted.door:
            found = found.filter(door=self.wanted.door)
        if scope == Scope.USER:
            if self.wanted.user:
                found = found.filter(who=self.wanted.user)
            elif self.wanted.group is not None:
                found = found.filter(_in_group(self.wanted.group))
        return found

    def _matches(self, place: rollup.Place, scope: Scope) -> bool:
        return (
            place.scope == scope
            and self.wanted.model in {"", place.model}
            and self.wanted.door in {"", place.door}
        )

    def _live_users(self) -> Iterator[tuple[date, rollup.Place, Figures, tuple[str, ...]]]:
        for day, place, figures in self.live.days(self.period):
            if not self._matches(place, Scope.USER):
                continue
            groups = self.live.groups_of(day, place.who)
            if self.wanted.user not in {"", place.who}:
                continue
            if self.wanted.group is not None and self.wanted.group not in (groups or ("",)):
                continue
            yield day, place, figures, groups

    def combinations(self) -> set[tuple[str, str, str, str]]:
        """Return who used which model through which door, and in which groups they were."""
        if self._combinations is None:
            found = self._days(Scope.USER).order_by()
            self._combinations = set(
                found.values_list("who", "model", "door", "groups").distinct()
            ) | {
                (place.who, place.model, place.door, " ".join(groups))
                for _day, place, _figures, groups in self._live_users()
            }
        return self._combinations

    def total(self, least: int) -> Line:
        users = len({who for who, *_rest in self.combinations()})
        shown = users >= least or users == 0
        figures = total(cell.figures for cell in self.cells) if shown else None
        return Line("", "", figures, users if shown else None)

    def split(self, by: Literal["model", "door"], least: int) -> list[Line]:
        """Return the lines of a table whose lines add up to the total."""
        figures: dict[str, Figures] = defaultdict(Figures)
        for cell in self.cells:
            figures[getattr(cell, by)].merge(cell.figures)
        users: dict[str, set[str]] = {key: set() for key in figures}
        for who, model, door, _groups in self.combinations():
            users.setdefault(model if by == "model" else door, set()).add(who)
        hidden = suppression.partition(users, least) if least > 1 else set()
        names = door_names() if by == "door" else {}
        return _sorted(
            Line(
                key,
                names.get(key, key),
                None if key in hidden else found,
                None if key in hidden else len(users[key]),
            )
            for key, found in figures.items()
        )

    def groups(self, least: int) -> list[Line]:
        figures = self._sums(Scope.GROUP)
        members: dict[frozenset[str], set[str]] = defaultdict(set)
        for who, _model, _door, groups in self.combinations():
            members[frozenset(groups.split() or [""])].add(who)
        hidden = suppression.overlapping(members, least) if least > 1 else set()
        names = _names(LabelKind.GROUP, figures)
        return _sorted(
            Line(
                key,
                names.get(key, ""),
                None if key in hidden else found,
                None
                if key in hidden
                else len(set().union(*(some for ids, some in members.items() if key in ids))),
            )
            for key, found in figures.items()
        )

    def users_table(self) -> list[Line]:
        figures = self._sums(Scope.USER)
        names = _names(LabelKind.USER, figures)
        return _sorted(Line(key, names.get(key, key), found, 1) for key, found in figures.items())

    def add_percentiles(self, scope: Scope, lines: Iterable[Line]) -> None:
        shown = {line.key: line.figures for line in lines if line.figures is not None}
        found = self._days(scope).filter(who__in=list(shown))
        for who, detail in found.values_list("who", "detail"):
            shown[who].take_detail(detail)

    def _sums(self, scope: Scope) -> dict[str, Figures]:
        sums = {f"sum_{name}": Sum(name) for name in SUMS}
        figures: dict[str, Figures] = {}
        rows: Iterable[Mapping[str, Any]] = (
            self._days(scope).order_by().values("who").annotate(**sums)
        )
        for found in rows:
            figures[found["who"]] = Figures(**{name: found[f"sum_{name}"] for name in SUMS})
        if scope == Scope.USER:
            recent = ((place, some) for _day, place, some, _groups in self._live_users())
        else:
            recent = (
                (place, some)
                for _day, place, some in self.live.days(self.period)
                if self._matches(place, scope)
            )
        for place, some in recent:
            figures.setdefault(place.who, Figures()).merge(some)
        return figures

    def points(self, least: int) -> list[Point]:
        """Return figures by hour or day. Empty periods are points too."""
        if self.period.hourly:
            figures, users = self._by_hour(least)
            instants = _hours(self.period)
        else:
            figures, users = self._by_day(least)
            instants = [
                organization.start_of(self.period.first + timedelta(days=number))
                for number in range(self.period.days)
            ]
        hidden = suppression.partition(users, least) if least > 1 else set()
        return [Point(at, None if at in hidden else figures.get(at, Figures())) for at in instants]

    def _by_day(self, least: int) -> tuple[dict[datetime, Figures], dict[datetime, set[str]]]:
        figures: dict[datetime, Figures] = defaultdict(Figures)
        start = organization.start_of
        for cell in self.cells:
            figures[start(cell.at)].merge(cell.figures)
        users: dict[datetime, set[str]] = defaultdict(set)
        if least > 1:
            for day, who in self._days(Scope.USER).order_by().values_list("day", "who").distinct():
                users[start(day)].add(who)
            for day, place, _figures, _groups in self._live_users():
                users[start(day)].add(place.who)
        return figures, users

    def _by_hour(self, least: int) -> tuple[dict[datetime, Figures], dict[datetime, set[str]]]:
        begin, end = self.period.bounds()
        found = HourCell.objects.filter(start__gte=begin, start__lt=end)
        if self.wanted.model:
            found = found.filter(model=self.wanted.model)
        if self.wanted.door:
            found = found.filter(door=self.wanted.door)
        figures: dict[datetime, Figures] = defaultdict(Figures)
        own = found.filter(scope=self._scope, who=self._who)
        for start, detail, *sums in own.values_list("start", "detail", *SUMS):
            part = Figures(**dict(zip(SUMS, sums, strict=True)))
            part.take_detail(detail)
            figures[start].merge(part)
        users: dict[datetime, set[str]] = defaultdict(set)
        if least > 1:
            pairs = found.filter(scope=Scope.USER).order_by().values_list("start", "who")
            for start, who in pairs.distinct():
                users[start].add(who)
        for (start, place), part in self.live.tally.hours.items():
            if not begin <= start < end:
                continue
            if self._matches(place, self._scope) and place.who == self._who:
                figures[start].merge(part)
            if least > 1 and self._matches(place, Scope.USER):
                users[start].add(place.who)
        return figures, users


def door_names() -> dict[str, str]:
    """Return the names of the ways in, by `Generation.via`."""
    return {str(door): capfirst(str(label)) for door, label in Via.choices}


def label(kind: LabelKind, key: str) -> str:
    """Return the last known name of a user, group or key, "" if it never was counted."""
    return _names(kind, [key]).get(key, "")


def _in_group(group: str) -> Q:
    if not group:
        return Q(groups="")
    return (
        Q(groups=group)
        | Q(groups__startswith=f"{group} ")
        | Q(groups__endswith=f" {group}")
        | Q(groups__contains=f" {group} ")
    )


def _names(kind: LabelKind, keys: Iterable[str]) -> dict[str, str]:
    """Return the last known names. Who is not counted yet has no label."""
    wanted = {key for key in keys if key.isdecimal()}
    labels = Label.objects.filter(kind=kind).values_list("key", "name")
    if len(wanted) < 500:
        labels = labels.filter(key__in=wanted)
    found = dict(labels)
    missing = wanted - found.keys()
    return {**found, **rollup.current_names(kind, missing)} if missing else found


def _sorted(lines: Iterable[Line]) -> list[Line]:
    """Return the lines with the most tokens first, hidden ones last."""
    return sorted(
        lines,
        key=lambda line: (
            line.figures is None,
            -(line.figures.tokens if line.figures else 0),
            line.name,
        ),
    )


def _hours(period: Period) -> list[datetime]:
    begin, end = period.bounds()
    found, at = [], begin.astimezone(UTC)
    while at < end:
        found.append(at)
        at += timedelta(hours=1)
    return found
