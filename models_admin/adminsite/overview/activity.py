"""Figures of the last hour, from the generations of that time."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count
from django.utils import timezone

from chatsite.conversations.models import OPEN_STATES, Generation, GenerationState, Via

MINUTES: Final = 60
# Newest requests that are read: bounds the cost on a very busy site.
LIMIT: Final = 20_000
# Seconds that computed figures are used for all readers of a process.
LIFETIME: Final = 4.0
# Minutes after a request in which its user counts as active.
ACTIVE_MINUTES: Final = 15
_BAD: Final = {GenerationState.FAILED, GenerationState.INTERRUPTED}
# What a request needs at least to be drawn, in seconds.
_SHORTEST: Final = 0.001


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its times in seconds since the epoch; ``ttft`` is in seconds."""

    queued: float
    started: float | None
    finished: float | None
    owner: int
    state: str
    tokens: int
    ttft: float | None
    error: str


@dataclass
class Series:
    """One value per minute, oldest first; None where there is nothing to measure.

    ``tokens`` are per second; ``running`` and ``waiting`` are means over the minute; ``ttft_p50``
    and ``ttft_p95`` are in seconds. ``minutes`` are the ends of the minutes since the epoch.
    """

    minutes: list[int]
    requests: list[int]
    errors: list[int]
    tokens: list[float]
    running: list[float]
    waiting: list[float]
    ttft_p50: list[float | None]
    ttft_p95: list[float | None]


@dataclass
class Activity:
    """``running`` and ``waiting`` are requests now, ``oldest_wait`` the longest wait in seconds.

    ``active`` is the number of users with a request in the last `ACTIVE_MINUTES`. ``tokens`` is the
    mean of the last minute per second. ``errors`` are of the last hour, as are ``ttft_p50`` and
    ``ttft_p95`` in seconds; ``codes`` has the commonest. With ``cut`` the hour had more requests
    than were read.
    """

    running: int
    waiting: int
    oldest_wait: float
    active: int
    requests: int
    errors: int
    recent_errors: int
    recent_requests: int
    codes: list[tuple[str, int]]
    tokens: float
    ttft_p50: float | None
    ttft_p95: float | None
    series: Series
    cut: bool = False


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of sorted ``values``; None if there are none."""
    if not values:
        return None
    return values[max(0, math.ceil(share * len(values)) - 1)]


def summarize(requests: Iterable[Request], now: float, *, cut: bool = False) -> Activity:
    """Compute all figures but those of open requests, which `measure` adds."""
    end = int(now)
    begin = end - MINUTES * 60
    series = Series(
        minutes=[begin + 60 * (place + 1) for place in range(MINUTES)],
        requests=[0] * MINUTES,
        errors=[0] * MINUTES,
        tokens=[0.0] * MINUTES,
        running=[0.0] * MINUTES,
        waiting=[0.0] * MINUTES,
        ttft_p50=[None] * MINUTES,
        ttft_p95=[None] * MINUTES,
    )
    firsts: list[list[float]] = [[] for _minute in range(MINUTES)]
    owners: set[int] = set()
    codes: Counter[str] = Counter()
    total = recent = recent_errors = 0
    recently = end - ACTIVE_MINUTES * 60
    for one in requests:
        total += 1
        place = _place(one.queued, begin)
        series.requests[place] += 1
        if one.queued >= recently:
            owners.add(one.owner)
            recent += 1
        if one.state in _BAD:
            series.errors[_place(one.finished or one.queued, begin)] += 1
            codes[one.error or one.state] += 1
            recent_errors += (one.finished or one.queued) >= recently
        if one.ttft is not None:
            firsts[_place(one.queued + one.ttft, begin)].append(one.ttft)
        served = one.started if one.started is not None else one.finished
        _spread(series.waiting, begin, one.queued, end if served is None else served, 1 / 60)
        if one.started is not None:
            until = max(one.finished or end, one.started + _SHORTEST)
            _spread(series.running, begin, one.started, until, 1 / 60)
            first = one.queued + one.ttft if one.ttft is not None else one.started
            first = min(max(first, one.started), until - _SHORTEST)
            if one.finished is not None and one.tokens:
                rate = one.tokens / (until - first)
                _spread(series.tokens, begin, first, until, rate / 60)
    for place, values in enumerate(firsts):
        values.sort()
        series.ttft_p50[place] = percentile(values, 0.5)
        series.ttft_p95[place] = percentile(values, 0.95)
    hour = sorted(value for values in firsts for value in values)
    return Activity(
        running=0,
        waiting=0,
        oldest_wait=0,
        active=len(owners),
        requests=total,
        errors=codes.total(),
        recent_errors=recent_errors,
        recent_requests=recent,
        codes=codes.most_common(3),
        tokens=series.tokens[-1],
        ttft_p50=percentile(hour, 0.5),
        ttft_p95=percentile(hour, 0.95),
        series=series,
        cut=cut,
    )


def _place(moment: float, begin: int) -> int:
    return min(max(int((moment - begin) // 60), 0), MINUTES - 1)


def _spread(values: list[float], begin: int, start: float, end: float, weight: float) -> None:
    """Add ``weight`` per second of the interval to each minute that it overlaps."""
    start, end = max(start, begin), min(end, begin + MINUTES * 60)
    place = int((start - begin) // 60)
    while start < end and place < MINUTES:
        border = min(begin + 60 * (place + 1), end)
        values[place] += (border - start) * weight
        start, place = border, place + 1


def measure(now: datetime | None = None) -> Activity:
    """Read the last hour: two queries by indexes on the time of the request.

    Titles, which nobody waits for, are left out.
    """
    now = now or timezone.now()
    asked = Generation.objects.exclude(via__in=[Via.TITLE, Via.KNOWLEDGE])
    rows = (
        asked.filter(queued_at__gte=now - timedelta(minutes=MINUTES))
        .order_by("-queued_at")
        .values_list(
            *("queued_at", "started_at", "finished_at", "owner_id", "state"),
            *("completion_tokens", "timings__ttft", "error__code"),
        )[: LIMIT + 1]
    )
    found = [_request(row) for row in rows]
    activity = summarize(found[:LIMIT], now.timestamp(), cut=len(found) > LIMIT)
    waits = asked.filter(state__in=OPEN_STATES).values_list("state").annotate(count=Count("pk"))
    counts: dict[str, int] = dict(waits.order_by())
    activity.running = counts.get(GenerationState.RUNNING, 0)
    activity.waiting = counts.get(GenerationState.QUEUED, 0)
    if activity.waiting:
        queued = asked.filter(state=GenerationState.QUEUED).order_by("queued_at")
        first = queued.values_list("queued_at", flat=True).first()
        activity.oldest_wait = max(0.0, (now - first).total_seconds()) if first else 0.0
    return activity


def _request(row: tuple[Any, ...]) -> Request:
    queued, started, finished, owner, state, tokens, ttft, code = row
    return Request(
        queued=queued.timestamp(),
        started=started.timestamp() if started else None,
        finished=finished.timestamp() if finished else None,
        owner=owner,
        state=state,
        tokens=tokens or 0,
        ttft=float(ttft) / 1000 if ttft is not None else None,
        error=str(code or ""),
    )


@dataclass
class Shared:
    """Figures for all readers of a process, computed at most once per `LIFETIME` seconds."""

    compute: Callable[[], Activity]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _value: Activity | None = None
    _expires: float = 0.0

    def forget(self) -> None:
        """Compute the figures again when they are next read."""
        self._expires = 0.0

    def get(self) -> Activity:
        with self._lock:
            if self._value is None or time.monotonic() >= self._expires:
                self._value = self.compute()
                self._expires = time.monotonic() + LIFETIME
            return self._value


shared = Shared(measure)
