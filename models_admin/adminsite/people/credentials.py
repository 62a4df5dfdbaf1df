"""The pages of all sessions and of all API keys."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.contrib.sessions.models import Session
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from chatsite.accounts import people
from chatsite.accounts import sessions as browser_sessions
from chatsite.accounts.models import ApiKey, UserSession
from models_admin.adminsite.people import access, listing
from models_admin.adminsite.people.access import shown

_KEY_STATES: Final = {
    "usable": gettext_lazy("Usable"),
    "revoked": gettext_lazy("Revoked"),
    "expired": gettext_lazy("Expired"),
    "unused": gettext_lazy("Never used"),
}


@require_GET
@access.page(access.SEE)
def sessions(request: HttpRequest) -> HttpResponse:
    q = listing.searched(request)
    existing = Session.objects.filter(expire_date__gt=timezone.now())
    found = UserSession.objects.filter(session_key__in=existing.values("session_key"))
    if q:
        found = found.filter(Q(user__username__icontains=q) | Q(address__startswith=q))
    page = listing.one_page(request, found.select_related("user").order_by("-last_seen_at", "-pk"))
    return shown(
        request,
        "sessions.html",
        _("Sessions"),
        q=q,
        page=page,
        page_query=listing.query_string(q=q),
        rows=[(one, browser_sessions.described(one.agent).words) for one in page],
        current=request.session.session_key,
    )


@require_POST
@access.page(access.MANAGE)
def end_session(request: HttpRequest, id: int) -> HttpResponse:
    found = get_object_or_404(UserSession.objects.select_related("user"), pk=id)
    browser_sessions.end_one(found, request=request)
    messages.success(request, _("The session of %s was ended.") % found.user.username)
    return _back(request, "admin:people_sessions")


@require_GET
@access.page(access.SEE)
def keys(request: HttpRequest) -> HttpResponse:
    q, state = listing.searched(request), request.GET.get("state", "")
    found: Any = ApiKey.objects.select_related("owner")
    if q:
        found = found.filter(
            Q(owner__username__icontains=q) | Q(name__icontains=q) | Q(prefix__startswith=q)
        )
    if state == "usable":
        found = found.usable()
    elif state == "revoked":
        found = found.exclude(revoked_at=None)
    elif state == "expired":
        found = found.filter(revoked_at=None, expires_at__lte=timezone.now())
    elif state == "unused":
        found = found.filter(revoked_at=None, last_used_at=None)
    return shown(
        request,
        "keys.html",
        _("API keys"),
        q=q,
        state=state if state in _KEY_STATES else "",
        states=list(_KEY_STATES.items()),
        page=listing.one_page(request, found),
        page_query=listing.query_string(q=q, state=state),
    )


@require_POST
@access.page(access.MANAGE)
def revoke_key(request: HttpRequest, id: int) -> HttpResponse:
    key = get_object_or_404(ApiKey.objects.select_related("owner"), pk=id)
    if people.revoke_key(access.actor(request), key):
        text = _("The key %(key)s of %(user)s was revoked.")
        messages.success(request, text % {"key": key, "user": key.owner.username})
    else:
        messages.info(request, _("The key was already revoked."))
    return _back(request, "admin:people_keys")


def _back(request: HttpRequest, name: str) -> HttpResponse:
    """Return to the page that had the button."""
    where = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(where, allowed_hosts=None) and where.startswith("/"):
        return redirect(where)
    return redirect(name)
