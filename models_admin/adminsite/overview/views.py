"""The overview page, and what it polls."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from chatsite.hosts import status
from chatsite.hosts.status import HostStatus
from models_admin.adminsite.live import access, snapshot
from models_admin.adminsite.live.views import progress_of
from models_admin.adminsite.overview import activity, health
from models_admin.adminsite.overview.wire import OverviewCharts, OverviewNow, TokenCounter
from models_admin.models import Job, ModelName

log = logging.getLogger(__name__)

_CHARTS: Final = (
    ("tokens", _("Tokens per second")),
    ("first", _("Time to first text (s)")),
    ("load", _("Running and waiting answers")),
    ("requests", _("Requests and errors per minute")),
)

# Jobs shown; the page of jobs has all.
_JOBS = 5


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    values = _values(request)
    data = {"charts": _charts(values["activity"]), "counters": _counters(values["hosts"])}
    shown = access.context(
        request, _("Overview"), **values, now=msgspec.to_builtins(data), chart_titles=_CHARTS
    )
    return render(request, "admin/overview/page.html", shown)


@never_cache
@require_GET
@access.action("view_job")
def now(request: HttpRequest) -> HttpResponse:
    """Return `OverviewNow`."""
    values = _values(request)
    regions = {
        # A safe string plus a plain one is a plain one, which msgspec can encode.
        name: render_to_string(f"admin/overview/{name}.html", values, request) + ""
        for name in ("health", "tiles", "hosts", "jobs")
    }
    found = OverviewNow(
        time.time(), regions, _counters(values["hosts"]), _charts(values["activity"])
    )
    return HttpResponse(msgspec.json.encode(found), content_type="application/json")


def _values(request: HttpRequest) -> dict[str, Any]:
    hosts = status.ask_from_thread()
    try:
        figures = activity.shared.get()
    except DatabaseError as error:
        log.warning("Figures of the overview can't be read", extra={"error": error})
        figures = None
    found = snapshot.jobs()
    open_jobs = [job for job in found if job.state in Job.OPEN]
    problems = health.problems(request, hosts, figures)
    return {
        "activity": figures,
        "hosts": hosts,
        "problems": problems,
        "level": problems[0].level if problems else "good",
        "jobs": snapshot.job_rows(open_jobs[:_JOBS], progress_of(open_jobs)),
        "more_jobs": max(0, len(open_jobs) - _JOBS),
        "links": _links(request),
        "installed": ModelName.objects.count(),
        "loaded": len({model.name for host in hosts or () for model in host.models if model.slots}),
        "slots": sum(model.slots for host in hosts or () for model in host.models),
    }


def _links(request: HttpRequest) -> dict[str, str]:
    """Return the addresses behind the figures, as far as the user may open them."""
    found: dict[str, str] = {}
    if request.user.has_perm("chat.view_generation"):
        generations = reverse("admin:chat_generation_changelist")
        found |= {
            "requests": generations,
            "running": f"{generations}?state__exact=running",
            "waiting": health.queued_url(),
            "errors": health.failed_url(),
        }
    for name, url, permission in (
        ("people", "admin:accounts_user_changelist", "accounts.view_user"),
        ("usage", "admin:usage", "usage.view_report"),
        ("models", "admin:models_admin_modelname_changelist", "models_admin.view_modelname"),
    ):
        if request.user.has_perm(permission):
            try:
                found[name] = reverse(url)
            except NoReverseMatch:
                continue
    found.setdefault("usage", found.get("requests", ""))
    return found


def _counters(hosts: Sequence[HostStatus] | None) -> list[TokenCounter]:
    return [
        TokenCounter(f"{host.id} {model.name} {model.digest}", model.stats.decoded)
        for host in hosts or ()
        for model in host.models
        if model.stats is not None
    ]


def _charts(figures: activity.Activity | None) -> OverviewCharts | None:
    if figures is None:
        return None
    series = figures.series
    return OverviewCharts(
        minutes=series.minutes,
        requests=series.requests,
        errors=series.errors,
        tokens=[round(value, 1) for value in series.tokens],
        running=[round(value, 2) for value in series.running],
        waiting=[round(value, 2) for value in series.waiting],
        ttft_p50=[_rounded(value) for value in series.ttft_p50],
        ttft_p95=[_rounded(value) for value in series.ttft_p95],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
