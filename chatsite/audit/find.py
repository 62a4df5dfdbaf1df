"""Searching and filtering events, newest first, in pages by their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import Max, Min, Q, QuerySet

from chatsite.audit import search_terms
from chatsite.audit.models import Event
from chatsite.audit.search_terms import filter_term
from chatsite.text_terms import Query, parse

PAGE: Final = 50
# Candidates that are fetched at once; more for later rounds, if many do not match exactly.
_FETCH: Final = 200
_EXPORT_CHUNK: Final = 1000
_LAST: Final = 2**63 - 1


@dataclass(frozen=True)
class Filter:
    """What to show.

    ``kind`` is a kind or the domain of several (``auth``). ``user`` acted or was acted on.
    """

    text: str = ""
    kind: str = ""
    outcome: str = ""
    user: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        return self == Filter()

    def terms(self) -> set[str]:
        found = set()
        if self.kind:
            found.add(filter_term("kind" if "." in self.kind else "domain", self.kind))
        if self.outcome:
            found.add(filter_term("outcome", self.outcome))
        if self.user:
            found.add(filter_term("user", self.user))
        return found


@dataclass(frozen=True)
class Page:
    """Events, newest first; ``before`` is the cursor of the next page, None at the end."""

    events: list[Event]
    before: int | None


def page(wanted: Filter, before: int | None = None, size: int = PAGE) -> Page:
    found: list[Event] = []
    for event in newest_first(wanted, before, fetch=max(size + 1, _FETCH if wanted.text else 0)):
        if len(found) == size:
            return Page(found, found[-1].sequence)
        found.append(event)
    return Page(found, None)


def newest_first(
    wanted: Filter, before: int | None = None, fetch: int = _EXPORT_CHUNK
) -> Iterator[Event]:
    """Yield all events that match, in chunks of ``fetch``."""
    query = parse(wanted.text)
    if wanted.text.strip() and not query.patterns:
        return  # only punctuation
    low, high = _range(wanted)
    cursor = min(before or _LAST, high + 1)
    while cursor > low:
        events = _candidates(wanted, query, low, cursor, fetch)
        for event in events:
            if not query.patterns or query.find(search_terms.text(event)) is not None:
                yield event
        if len(events) < fetch:
            return
        cursor = events[-1].sequence


def oldest_first(wanted: Filter) -> Iterator[Event]:
    """Yield all events that match in the order of the chain. Searches are newest first only."""
    low, high = _range(wanted)
    rows = _in_time(Event.objects.order_by("sequence"), wanted)
    if wanted.kind:
        is_kind = "." in wanted.kind
        rows = rows.filter(
            **{"kind" if is_kind else "kind__startswith": wanted.kind + ("" if is_kind else ".")}
        )
    if wanted.outcome:
        rows = rows.filter(outcome=wanted.outcome)
    if wanted.user:
        acted_on = Q(target_type="user", target_name__iexact=wanted.user)
        rows = rows.filter(Q(actor_name__iexact=wanted.user) | acted_on)
    query = parse(wanted.text)
    after = low - 1
    while after < high:
        events = list(rows.filter(sequence__gt=after, sequence__lte=high)[:_EXPORT_CHUNK])
        for event in events:
            if not query.patterns or query.find(search_terms.text(event)) is not None:
                yield event
        if len(events) < _EXPORT_CHUNK:
            return
        after = events[-1].sequence


def _range(wanted: Filter) -> tuple[int, int]:
    """Return the least and the greatest number of the events of the wanted time.

    Their order is nearly that of time: an event waits in its spool while the database is away.
    """
    if wanted.since is None and wanted.until is None:
        return 0, _LAST - 1
    found = _in_time(Event.objects.order_by(), wanted).aggregate(Min("sequence"), Max("sequence"))
    if found["sequence__min"] is None:
        return 1, 0
    return found["sequence__min"], found["sequence__max"]


def _in_time(rows: QuerySet[Event], wanted: Filter) -> QuerySet[Event]:
    if wanted.since is not None:
        rows = rows.filter(time__gte=wanted.since)
    if wanted.until is not None:
        rows = rows.filter(time__lt=wanted.until)
    return rows


def _candidates(wanted: Filter, query: Query, low: int, before: int, limit: int) -> list[Event]:
    rows = _in_time(Event.objects.order_by("-sequence"), wanted)
    rows = rows.filter(sequence__gte=low, sequence__lt=before)
    whole = sorted(query.whole | wanted.terms())
    prefixes = sorted(query.prefixes)
    if not whole and not prefixes:
        return list(rows[:limit])
    events: list[Event] = []
    # Numbers of the range may be of another time, if events waited in a spool: so more than once.
    while len(events) < limit:
        ids = _matching(whole, prefixes, low, before, limit)
        events += rows.filter(sequence__in=ids)
        if len(ids) < limit:
            break
        before = ids[-1]
    return events[:limit]


def _matching(
    whole: list[str], prefixes: list[str], low: int, before: int, limit: int
) -> list[int]:
    postgresql = connection.vendor == "postgresql"
    if postgresql:
        words = [*(f"'{term}'" for term in whole), *(f"'{term}':*" for term in prefixes)]
        matched = " & ".join(words)
    else:
        words = [*(f'"{term}"' for term in whole), *(f'"{term}" *' for term in prefixes)]
        matched = " AND ".join(words)
    values: list[Any] = [matched, low, before, limit]
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRESQL if postgresql else _SQLITE, values)
        return [row[0] for row in cursor.fetchall()]


_SQLITE = """
    SELECT rowid FROM audit_terms WHERE audit_terms MATCH %s AND rowid >= %s AND rowid < %s
    ORDER BY rowid DESC LIMIT %s
"""
_POSTGRESQL = """
    SELECT sequence FROM audit_eventterms
    WHERE terms @@ %s::tsquery AND sequence >= %s AND sequence < %s
    ORDER BY sequence DESC LIMIT %s
"""
