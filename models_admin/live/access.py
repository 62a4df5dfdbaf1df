"""Who may do what on the administration's own pages, and how it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from chatsite.accounts.models import User
from chatsite.errors import ChatsiteError
from models_admin.models import Job
from models_admin.site import site

View = Callable[..., HttpResponseBase]


def page(right: str) -> Callable[[View], View]:
    """A page of the administration, for staff with the right ``models_admin.<right>``."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.has_perm(f"models_admin.{right}"):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return site.admin_view(checked)

    return decorate


def action(right: str) -> Callable[[View], View]:
    """What a button does: refusals are ``{"error": {...}}`` with their status."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                return view(request, *args, **kwargs)
            except ChatsiteError as error:
                return JsonResponse({"error": error.as_dict()}, status=error.status)

        return page(right)(checked)

    return decorate


def person(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def record(request: HttpRequest, job: Job, what: str, *, new: bool = False) -> None:
    """In the administration's history, beside what is changed through its other pages."""
    LogEntry.objects.log_actions(
        user_id=person(request).pk,
        queryset=[job],
        action_flag=ADDITION if new else CHANGE,
        change_message=what,
        single_object=True,
    )


def context(request: HttpRequest, title: str, **values: Any) -> dict[str, Any]:
    return {**site.each_context(request), "title": title, **values}


def answered(**values: Any) -> HttpResponse:
    return JsonResponse(values)
