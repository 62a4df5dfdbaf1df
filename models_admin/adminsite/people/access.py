"""Who may see and change users, and what all pages of People share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.functional import Promise
from django.views.decorators.cache import never_cache

from chatsite.accounts.models import User
from chatsite.accounts.people import Actor
from chatsite.errors import ChatsiteError
from models_admin.adminsite.site import site

View = Callable[..., HttpResponseBase]

SEE: Final = "accounts.view_user"
# No role has it: superusers have all permissions.
MANAGE: Final = "accounts.manage_users"


def page(permission: str) -> Callable[[View], View]:
    """Decorate a page for staff with the permission."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.has_perm(permission):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return site.admin_view(never_cache(checked))

    return decorate


def may_manage(request: HttpRequest) -> bool:
    return request.user.has_perm(MANAGE)


def actor(request: HttpRequest) -> Actor:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return Actor(request.user, request)


def shown(
    request: HttpRequest, template: str, title: str | Promise, status: int = 200, **values: Any
) -> HttpResponse:
    context = {
        **site.each_context(request),
        "title": title,
        "may_manage": may_manage(request),
        **values,
    }
    return render(request, f"admin/people/{template}", context, status=status)


def attempted(request: HttpRequest, change: Callable[[], Any]) -> Any:
    """Return the result of ``change``; None with a message for the user if it was refused."""
    try:
        return change()
    except ChatsiteError as error:
        messages.error(request, str(error))
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    return None
