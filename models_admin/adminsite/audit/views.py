"""The audit section: search, an event's page, export, and verification."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as clock
from typing import IO, Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chatsite.audit import chain, find, formats, kinds, verification
from chatsite.audit.find import Filter
from chatsite.audit.models import Event, Outcome
from chatsite.audit.record import record
from chatsite.numbers import natural
from models_admin.adminsite.live import access
from models_admin.store import disk

_TEXT_CHARS: Final = 200
# A longer log is verified at night or from the command line: a request would take too long.
_VERIFIED_MOST: Final = 250_000
_CHUNK: Final = 256 << 10
# Lines between pauses that leave the interpreter to other requests.
_LINES: Final = 500
_PAUSE: Final = 0.002
_PROBLEMS: Final = {
    "changed": gettext_lazy("Event %(number)s was changed."),
    "removed": gettext_lazy("Event %(number)s was removed."),
    "inserted": gettext_lazy("At event %(number)s one was inserted, replaced or moved."),
    "seal": gettext_lazy(
        "The seal of event %(number)s was not made with this site's secret key: the log was "
        "replaced, or the key was changed."
    ),
}
_BADGES: Final = {Outcome.OK: "", Outcome.DENIED: "warn", Outcome.FAILED: "bad"}


@require_GET
@never_cache
@access.page("audit.view_event")
def overview(request: HttpRequest) -> HttpResponse:
    wanted, query, problems = _filter(request)
    before = natural(request.GET.get("before", ""), 2**63 - 1)
    page = find.page(wanted, before) if not problems else find.Page([], None)
    values: dict[str, Any] = {
        "rows": [_row(event) for event in page.events],
        "before": page.before,
        "is_first": before is None,
        "wanted": wanted,
        "query": urlencode(query),
        "chosen": query,
        "problems": problems,
        "domains": kinds.by_domain(),
        "outcomes": Outcome.choices,
        "formats": formats.FORMATS,
        "state": _state(),
    }
    return render(
        request, "admin/audit/overview.html", access.context(request, _("Audit log"), **values)
    )


@require_GET
@never_cache
@access.page("audit.view_event")
def event(request: HttpRequest, sequence: int) -> HttpResponse:
    found = Event.objects.filter(pk=min(sequence, 2**63 - 1)).first()
    if found is None:
        raise Http404
    neighbours = Event.objects.filter(pk__in=[sequence - 1, sequence + 1]).in_bulk()
    earlier, later = neighbours.get(sequence - 1), neighbours.get(sequence + 1)
    anchor = chain.head()
    if earlier is not None:
        expected = earlier.hash
    else:
        expected = anchor.pruned_hash if sequence == anchor.pruned_sequence + 1 else ""
    digest = hashlib.sha256(chain.canonical(formats.values(found))).hexdigest()
    details = [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else _shown(value))
        for name, value in formats.details(found).items()
    ]
    values = {
        "event": found,
        "row": _row(found),
        "details": details,
        "earlier": earlier,
        "later": later,
        "hash_matches": digest == found.hash,
        "follows": found.previous == expected,
        "line": json.dumps(json.loads(formats.as_json(found)), ensure_ascii=False, indent=2),
    }
    title = kinds.label(found.kind)
    return render(request, "admin/audit/event.html", access.context(request, title, **values))


@require_GET
@never_cache
@access.page("audit.view_event")
def export(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Send the filtered events, oldest first. They are written to disk first: see `_chunks`."""
    form = request.GET.get("format", "")
    wanted, query, problems = _filter(request)
    if form not in formats.FORMATS or problems:
        return redirect(f"{reverse('admin:audit')}?{urlencode(query)}")
    file = tempfile.TemporaryFile(dir=settings.DATA_DIR)  # noqa: SIM115  (closed by `_Export`)
    try:
        with disk.full_refused():
            count = 0
            for line in formats.lines(find.oldest_first(wanted), form):
                file.write(line.encode())
                count += 1
                if count % _LINES == 0:
                    time.sleep(_PAUSE)
            size = file.tell()
            file.seek(0)
    except BaseException:
        file.close()
        raise
    given = [f"{name}={text}" for name, text in query.items()]
    record("audit.exported", request=request, format=form, lines=count, filter=given)
    response = _Export(file, content_type=formats.CONTENT_TYPES[form])
    response["Content-Length"] = str(size)
    name = f"audit-{timezone.now():%Y-%m-%d-%H%M}.{'log' if form == 'syslog' else form}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require_POST
@access.page("audit.view_event")
def verify(request: HttpRequest) -> HttpResponse:
    if Event.objects.count() > _VERIFIED_MOST:
        messages.warning(
            request,
            _(
                "The log is too long to be verified here. It is verified each night, or by: "
                "manage.py audit verify"
            ),
        )
        return redirect("admin:audit")
    report = verification.verify()
    if report.problem is None:
        record("audit.verified", request=request, events=report.events, last=report.last)
        text = ngettext(
            "The audit log is intact: %(count)s event was verified.",
            "The audit log is intact: %(count)s events were verified.",
            report.events,
        )
        messages.success(request, text % {"count": report.events})
    return redirect("admin:audit")


class _Export(StreamingHttpResponse):
    """A response that closes its file, even if it was not read."""

    def __init__(self, file: IO[bytes], **values: Any) -> None:
        super().__init__(_chunks(file), **values)
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    """Yield the file in pieces. Daphne would hold in memory what a slow reader has not received."""
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk


def _filter(request: HttpRequest) -> tuple[Filter, dict[str, str], list[str]]:
    """Return the filter of a request, its parameters, and what is wrong with them."""
    names = ("q", "kind", "outcome", "user", "since", "until", "zone")
    query = {
        name: text
        for name in names
        if (text := request.GET.get(name, "").replace("\x00", "").strip()[:_TEXT_CHARS])
    }
    zone = _zone(query.get("zone", ""))
    problems = []
    days: dict[str, date | None] = {}
    for name in ("since", "until"):
        days[name] = _day(query.get(name, ""))
        if name in query and days[name] is None:
            problems.append(_("%(text)s is not a date.") % {"text": query[name]})
    since = _start(days["since"], zone)
    until = _start(days["until"], zone, after=1)
    if since and until and since >= until:
        problems.append(_("The start date must not be after the end date."))
    outcome = query.get("outcome", "")
    wanted = Filter(
        text=query.get("q", ""),
        kind=query.get("kind", ""),
        outcome=outcome if outcome in Outcome.values else "",
        user=query.get("user", ""),
        since=since,
        until=until,
    )
    return wanted, query, problems


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _day(text: str) -> date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None


def _start(day: date | None, zone: tzinfo, after: int = 0) -> datetime | None:
    """Return the start of a day in ``zone``, ``after`` days later."""
    if day is None:
        return None
    try:
        return datetime.combine(day + timedelta(days=after), clock.min, tzinfo=zone)
    except OverflowError:
        return None


def _row(event: Event) -> dict[str, Any]:
    return {
        "event": event,
        "label": kinds.label(event.kind),
        "badge": _BADGES.get(Outcome(event.outcome), "") if event.outcome in Outcome.values else "",
        "iso": chain.iso(event.time),
        "target": event.target_name or event.target_id,
    }


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value)


def _state() -> dict[str, Any]:
    """Return when the log was verified, what was found, and what waits in the spool."""
    last = verification.last()
    spooled = verification.spool_state()
    mismatch = find.page(Filter(kind="audit.seal_mismatch"), size=1).events
    problem = ""
    if last is not None and not last.ok:
        problem = str(_PROBLEMS.get(last.problem, "")) % {"number": last.problem_sequence}
    return {
        "problem": problem,
        "last": last,
        "last_iso": chain.iso(last.time) if last else "",
        "events": chain.head().sequence - chain.head().pruned_sequence,
        "spool": spooled if spooled.is_delayed else None,
        "mismatch": mismatch[0] if mismatch else None,
        "keeps_days": settings.ENV.audit_days,
        "syslog": settings.ENV.audit_syslog,
    }
