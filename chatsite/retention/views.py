"""The page of one's own data: what is kept, exports, deletions, administrators' reads."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, BinaryIO

from asgiref.sync import sync_to_async
from django import forms
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.conversations.models import Conversation
from chatsite.errors import ChatsiteError, localise
from chatsite.exchange.download import FileDownload
from chatsite.json_api import current_user
from chatsite.retention import deletions, exporting, holds, periods
from chatsite.retention.errors import AccountDeletionForbidden
from chatsite.retention.models import AdminRead, Deletion, Export, WorkState
from chatsite.retention.report import Report
from chatsite.site_settings import current

_SHOWN = 10


class ConfirmForm(forms.Form):
    """Asks for the user's name, so that nothing is deleted by a slip."""

    name = forms.CharField(label=gettext_lazy("Your username"), max_length=150)

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        self.fields["name"].widget.attrs |= {"autocomplete": "off", "spellcheck": "false"}

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        if name != self._user.get_username():
            raise forms.ValidationError(
                _("Enter %(name)s to confirm."), params={"name": self._user.get_username()}
            )
        return name


def _user(request: HttpRequest) -> User:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    return user


@never_cache
@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    return _page(request)


def _page(request: HttpRequest, status: int = 200, **forms_shown: ConfirmForm) -> HttpResponse:
    user = _user(request)
    own = Conversation.objects
    settings = current()
    work = exporting.latest(user)
    found = Deletion.objects.of(user)[:_SHOWN]
    context = {
        "days": periods.days_for(user),
        "keeps_pinned": settings.retention_keeps_pinned,
        "chats": own.of(user).count(),
        "deleted": own.deleted_by(user).count(),
        "held": holds.holds_of(user).exists(),
        "export": work,
        "export_error": localise(work.error) if work else None,
        "deletions": [(one, Report.of(one.report).lines()) for one in found],
        "running": any(one.open for one in found) or bool(work and work.open),
        "reads": AdminRead.objects.of(user).select_related("conversation")[:_SHOWN],
        "reads_allowed": settings.admin_reads != "forbidden",
        "may_delete_account": settings.account_deletion == "allowed",
        "chats_form": ConfirmForm(user, prefix="chats"),
        "account_form": ConfirmForm(user, prefix="account"),
    }
    return render(request, "accounts/data.html", {**context, **forms_shown}, status=status)


@login_required
@require_POST
def export(request: HttpRequest) -> HttpResponse:
    try:
        exporting.request_export(_user(request), request=request)
    except ChatsiteError as error:
        messages.error(request, str(error))
    return redirect("own_data")


@require_GET
@never_cache
async def download(request: HttpRequest, id: uuid.UUID) -> HttpResponseBase:
    """Return the file of an export, to its owner and until it expires."""
    user = await current_user_or_404(request)
    row = await Export.objects.of(user).filter(pk=id, state=WorkState.DONE).afirst()
    if row is None or row.expires_at is None or row.expires_at < timezone.now():
        raise Http404
    try:
        file = await sync_to_async(_opened)(exporting.path_of(row))
    except FileNotFoundError as error:
        raise Http404 from error
    record("retention.export_downloaded", request=request, user=user)
    return FileDownload(file, f"chatsite-data {row.created_at.date().isoformat()}.zip")


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


async def current_user_or_404(request: HttpRequest) -> User:
    """Return the user; a link of an export says nothing to others."""
    try:
        return await current_user(request)
    except ChatsiteError as error:
        raise Http404 from error


@login_required
@require_POST
def delete_chats(request: HttpRequest) -> HttpResponse:
    """Delete all chats, or purge those that were deleted before (``scope=deleted``)."""
    user = _user(request)
    if request.POST.get("scope") == Deletion.Scope.DELETED:
        deletions.request_chats(user, Deletion.Scope.DELETED, request=request)
        return redirect("own_data")
    form = ConfirmForm(user, request.POST, prefix="chats")
    if not form.is_valid():
        return _page(request, 400, chats_form=form)
    try:
        deletions.request_chats(user, Deletion.Scope.CHATS, request=request)
    except ChatsiteError as error:
        messages.error(request, str(error))
    return redirect("own_data")


@login_required
@require_POST
def delete_account(request: HttpRequest) -> HttpResponse:
    """Delete the own account, if the site allows it, and sign out."""
    user = _user(request)
    form = ConfirmForm(user, request.POST, prefix="account")
    try:
        if current().account_deletion != "allowed":
            raise AccountDeletionForbidden
        if not form.is_valid():
            return _page(request, 400, account_form=form)
        deletions.request_account(user, by=user.get_username(), request=request)
    except ChatsiteError as error:
        messages.error(request, str(error))
        return redirect("own_data")
    logout(request)
    messages.success(request, _("Your account is being deleted with all its data."))
    return redirect("account_login")
