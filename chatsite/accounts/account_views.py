"""Pages of one's own account: profile, and sessions."""

from __future__ import annotations

from typing import Any

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.accounts import links, mail, sessions
from chatsite.accounts.forms import ProfileForm
from chatsite.accounts.links import target
from chatsite.accounts.models import AccountLink, User
from chatsite.audit.record import record


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]
def profile(request: HttpRequest) -> HttpResponse:
    """Show and change name and address. A directory keeps those of its users."""
    user = _own(request)
    stored = User.objects.get(pk=user.pk)
    managed = not user.has_usable_password()
    form = ProfileForm(request.POST or None, instance=stored)
    if managed:
        for field in form.fields.values():
            field.disabled = True
    if request.method == "POST" and not managed and form.is_valid():
        _save_profile(request, user, form)
        return redirect("account")
    return render(request, "accounts/profile.html", {"form": form, "managed": managed})


def _save_profile(request: HttpRequest, user: User, form: ProfileForm) -> None:
    """Save the names, and the address at once or after its confirmation by mail."""
    changed: User = form.save(commit=False)
    names = [name for name in form.changed_data if name != "email"]
    address = changed.email
    if names:
        changed.save(update_fields=names)
    if address != user.email:
        if address and mail.configured():
            text = links.create(
                user, AccountLink.Purpose.EMAIL, links.EMAIL_CONFIRMATION, email=address
            )
            url = links.absolute(reverse("confirm_email", args=[text]), request)
            mail.send_later(mail.written(address, "confirm", url=url, person=user))
            messages.info(
                request,
                _("Open the link that was sent to %(address)s to confirm the address.")
                % {"address": address},
            )
        else:
            User.objects.filter(pk=user.pk).update(email=address)
            names.append("email")
    if names:
        record("user.changed", request=request, user=user, target=target(user), fields=names)
        messages.success(request, _("Your profile was saved."))


@never_cache
@login_required
def session_list(request: HttpRequest) -> HttpResponse:
    user = _own(request)
    current = request.session.session_key
    rows: list[dict[str, Any]] = [
        {"row": row, "words": sessions.described(row.agent).words, "current": False}
        for row in sessions.active(user)
    ]
    for one in rows:
        one["current"] = one["row"].session_key == current
    rows.sort(key=lambda one: not one["current"])
    return render(request, "accounts/sessions.html", {"sessions": rows})


@login_required
@require_POST
def end_session(request: HttpRequest, id: int) -> HttpResponse:
    session = get_object_or_404(_own(request).browser_sessions, pk=id)
    if session.session_key == request.session.session_key:
        logout(request)
        return redirect(settings.LOGIN_URL)
    sessions.end_one(session, request=request)
    messages.success(request, _("The session was ended."))
    return redirect("sessions")


@login_required
@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """End all other sessions, or all (``everywhere`` in the form)."""
    user = _own(request)
    if "everywhere" in request.POST:
        sessions.end_all(user, by=user)
        logout(request)
        return redirect(settings.LOGIN_URL)
    sessions.end_all(user, keep=request)
    messages.success(request, _("All other sessions were ended."))
    return redirect("sessions")


def _own(request: HttpRequest) -> User:
    """Return the signed-in user as a plain object: `request.user` is lazy."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    return user
