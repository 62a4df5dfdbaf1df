"""Feedback: ratings by model, comments, and conversations that users share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from chatsite.audit.record import record
from chatsite.feedback import summary
from chatsite.feedback.models import Reason, SharedBranch, Vote
from chatsite.feedback.summary import OfModel
from chatsite.usage import organization, periods, suppression
from models_admin.adminsite.live import access

_PER_PAGE: Final = 25


@dataclass
class Line:
    """Ratings of a model; without ``ratings`` they are hidden, since they are of few users."""

    model: str
    ratings: OfModel | None
    reasons: list[tuple[str, str, int]]


@require_GET
@access.page("usage.view_report")
def overview(request: HttpRequest) -> HttpResponse:
    parameters = request.GET.dict()
    choice = periods.choose(parameters)
    begin, end = choice.period.bounds()
    chosen = {name: parameters.get(name, "") for name in ("model", "vote", "reason")}
    found = summary.by_model(begin, end)
    least = organization.min_group()
    lines, total = _lines(found, least)
    written = summary.written(begin, end, **chosen)
    part = Paginator(written, _PER_PAGE).get_page(request.GET.get("page"))
    values: dict[str, Any] = {
        "choice": choice,
        "presets": [
            (name, label, f"period={name}") for name, (_days, label) in periods.PRESETS.items()
        ],
        "zone": str(organization.zone()),
        "least": least,
        "total": total,
        "lines": lines,
        "rated": bool(found),
        "chosen": chosen,
        "hidden_fields": [(name, value) for name, value in chosen.items() if value],
        "votes": Vote.choices,
        "reasons": Reason.choices,
        "models": [one.model for one in found],
        "part": part,
        "may_read": request.user.has_perm("feedback.read_shared"),
        "query": "&".join(
            [choice.query, *(f"{name}={value}" for name, value in chosen.items() if value)]
        ),
    }
    return render(
        request, "admin/usage/feedback.html", access.context(request, _("Feedback"), **values)
    )


@require_GET
@access.page("usage.view_report")
def shared(request: HttpRequest, id: int) -> HttpResponse:
    """Show the conversation that a user shares with a rating, and record that it was read."""
    if not request.user.has_perm("feedback.read_shared"):
        raise PermissionDenied
    copy = (
        SharedBranch.objects.filter(feedback=id, message__conversation__deleted_at=None)
        .select_related("feedback__comment")
        .first()
    )
    if copy is None:
        raise Http404
    record("feedback.read", request=request, target=("message", str(copy.message_id), ""))
    values = {
        "copy": copy,
        "comment": getattr(copy.feedback, "comment", None),
        "messages_shared": copy.messages,
    }
    return render(
        request,
        "admin/usage/shared.html",
        access.context(request, _("Shared conversation"), **values),
    )


def _lines(found: list[OfModel], least: int) -> tuple[list[Line], OfModel | None]:
    """Return a line per model and the total, hidden as in usage reports."""
    total = OfModel("")
    for one in found:
        total.up += one.up
        total.down += one.down
        total.users |= one.users
    if least > 1 and len(total.users) < least:
        return [], None
    users = {one.model: one.users for one in found}
    hidden = suppression.partition(users, least) if least > 1 else set()
    return [
        Line(one.model, None if one.model in hidden else one, _reasons(one, least)) for one in found
    ], total


def _reasons(one: OfModel, least: int) -> list[tuple[str, str, int]]:
    """Return votes and reasons with their number; none while figures of few users are hidden."""
    if least > 1:
        return []
    return [
        (vote, str(Reason(reason).label), count)
        for (vote, reason), count in one.reasons.most_common()
    ]
