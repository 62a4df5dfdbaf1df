"""Permissions and history of the admin's own pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import msgspec
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.audit import record as audit
from chatsite.errors import ChatsiteError
from models_admin.adminsite.site import site
from models_admin.models import Job, JobKind

View = Callable[..., HttpResponseBase]

# Kinds of audit events by the kind of a new job, and by the action on one.
_NEW: Final[dict[str, str]] = {
    JobKind.DOWNLOAD: "model.pulled",
    JobKind.IMPORT: "model.imported",
    JobKind.EXPORT: "model.exported",
    JobKind.QUANTIZE: "model.quantized",
}
_ACTIONS: Final = {
    "pause": "job.paused",
    "resume": "job.resumed",
    "retry": "job.retried",
    "cancel": "job.cancelled",
    "remove": "job.removed",
    "default": "model.default",
}


def page(right: str) -> Callable[[View], View]:
    """Decorate a page of the administration, for staff with a permission.

    ``right`` is one of `models_admin`, or a whole name such as ``audit.view_event``. Without it the
    answer is a page with status 403 that says so.
    """
    permission = right if "." in right else f"models_admin.{right}"

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.has_perm(permission):
                return denied(request)
            return view(request, *args, **kwargs)

        return site.admin_view(checked)

    return decorate


def action(right: str) -> Callable[[View], View]:
    """Decorate an action of a page.

    Errors are returned as ``{"error": {...}}`` with their status.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                return view(request, *args, **kwargs)
            except ChatsiteError as error:
                return JsonResponse({"error": error.as_dict()}, status=error.status)

        return page(right)(checked)

    return decorate


def denied(request: HttpRequest) -> HttpResponse:
    """Return the page for staff without the permission, within the administration."""
    values = context(request, _("No access"))
    return render(request, "admin/denied.html", values, status=403)


def current_user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def record(request: HttpRequest, job: Job, what: str, *, new: bool = False) -> None:
    """Add an entry to the admin's history, as Django's own pages do, and an audit event.

    ``what`` is the action on an existing job, or the source of a ``new`` one.
    """
    audit.record(
        _NEW.get(job.kind, "model.created") if new else _ACTIONS[what],
        request=request,
        target=("model", job.target, job.target)
        if new or what == "default"
        else ("job", str(job.pk), job.target),
        job=str(job.pk),
        source=job.source,
    )
    LogEntry.objects.log_actions(
        user_id=current_user(request).pk,
        queryset=[job],
        action_flag=ADDITION if new else CHANGE,
        change_message=what,
        single_object=True,
    )


def context(request: HttpRequest, title: str | Promise, **values: Any) -> dict[str, Any]:
    return {**site.each_context(request), "title": title, **values}


def answered(**values: Any) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(values), content_type="application/json")
