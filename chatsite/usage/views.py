"""The page of one's own usage."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from chatsite.accounts.models import User
from chatsite.policy import quotas
from chatsite.usage import charts, organization, periods, report


@require_GET
@never_cache
@login_required
def own(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    choice = periods.choose(request.GET.dict())
    found = report.own(user.pk, choice.period)
    context: dict[str, Any] = {
        "choice": choice,
        "presets": periods.PRESETS,
        "report": found,
        "quotas": quotas.states(user),
        "zone": str(organization.zone()),
        "charts": {"tokens": charts.tokens(choice.period, found.points)},
    }
    return render(request, "usage/own.html", context)
