"""Pages of retention periods, legal holds and deletions."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.errors import ChatsiteError, localise
from chatsite.retention import deletions, holds, status, work
from chatsite.retention.models import DAYS_MAX, REASON_CHARS, Deletion, GroupRetention, LegalHold
from chatsite.retention.report import Report
from models_admin.adminsite.live import access

_PER_PAGE = 25


class UserField(forms.CharField):
    """The username of an existing user."""

    def clean(self, value: Any) -> Any:
        name = super().clean(value)
        if not name:
            return None
        found = User.objects.filter(username__iexact=name).first()
        if found is None:
            raise ValidationError(_("There is no user with this name."), code="unknown")
        return found


class ReasonField(forms.CharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            label=gettext_lazy("Reason"), min_length=3, max_length=REASON_CHARS, **kwargs
        )


class GroupForm(forms.Form):
    group = forms.ModelChoiceField(label=gettext_lazy("Group"), queryset=Group.objects.none())
    days = forms.IntegerField(
        label=gettext_lazy("Days"),
        min_value=0,
        max_value=DAYS_MAX,
        help_text=gettext_lazy("0: no period of its own."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["group"].queryset = Group.objects.order_by("name")  # type: ignore[attr-defined]


class HoldForm(forms.Form):
    user = UserField(
        label=gettext_lazy("Username"),
        required=False,
        help_text=gettext_lazy("Enter a user or choose a group."),
    )
    group = forms.ModelChoiceField(
        label=gettext_lazy("Group"), required=False, queryset=Group.objects.none()
    )
    reason = ReasonField(help_text=gettext_lazy("Recorded in the audit log."))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["group"].queryset = Group.objects.order_by("name")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        chosen = [found.get("user"), found.get("group")]
        if not self.errors and sum(one is not None for one in chosen) != 1:
            raise ValidationError(_("Enter either a user or a group."))
        return found


class AccountForm(forms.Form):
    user = UserField(label=gettext_lazy("Username"))
    again = forms.CharField(label=gettext_lazy("Repeat the username"), max_length=150)
    reason = ReasonField(help_text=gettext_lazy("Recorded in the audit log."))

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        user = found.get("user")
        if user is not None and found.get("again") != user.get_username():
            self.add_error("again", _("The usernames differ."))
        return found


@access.page("retention.view_groupretention")
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    return _retention(request)


def _retention(request: HttpRequest, form: GroupForm | None = None) -> HttpResponse:
    periods = GroupRetention.objects.select_related("group").order_by("group__name")
    values = access.context(
        request,
        _("Retention"),
        status=status.status(),
        periods=periods,
        form=form or GroupForm(),
        may_change=request.user.has_perm("retention.change_groupretention"),
        recent=_with_lines(Deletion.objects.filter(scope=Deletion.Scope.EXPIRED)[:5]),
    )
    return render(request, "admin/privacy/retention.html", values, status=400 if form else 200)


@access.page("retention.change_groupretention")
@require_POST
def change_group(request: HttpRequest) -> HttpResponse:
    form = GroupForm(request.POST)
    if not form.is_valid():
        return _retention(request, form)
    group, days = form.cleaned_data["group"], form.cleaned_data["days"]
    if days:
        GroupRetention.objects.update_or_create(group=group, defaults={"days": days})
    else:
        GroupRetention.objects.filter(group=group).delete()
    record(
        "retention.period_changed",
        request=request,
        target=("group", str(group.pk), group.name),
        days=days,
    )
    messages.success(request, _("The retention period of %s was saved.") % group.name)
    return redirect("admin:retention")


@access.page("retention.change_groupretention")
@require_POST
def run(request: HttpRequest) -> HttpResponse:
    """Start the purge that beat runs every hour."""
    if work.wake("chatsite.retention.purge_expired", "chatsite.retention.purge_deleted"):
        messages.success(request, _("The purge was started."))
    else:
        messages.error(request, _("The workers can't be reached. The next hourly run purges."))
    return redirect("admin:retention")


@access.page("retention.hold")
@require_GET
def holds_page(request: HttpRequest) -> HttpResponse:
    return _holds(request)


def _holds(request: HttpRequest, form: HoldForm | None = None) -> HttpResponse:
    found = LegalHold.objects.select_related("user", "group")
    values = access.context(
        request,
        _("Legal holds"),
        holds=found,
        held=holds.held_users().count(),
        form=form or HoldForm(),
    )
    return render(request, "admin/privacy/holds.html", values, status=400 if form else 200)


@access.page("retention.hold")
@require_POST
def place_hold(request: HttpRequest) -> HttpResponse:
    form = HoldForm(request.POST)
    if not form.is_valid():
        return _holds(request, form)
    found = form.cleaned_data
    hold = holds.place(
        found["reason"],
        by=request.user.get_username(),
        user=found["user"],
        group=found["group"],
        request=request,
    )
    messages.success(request, _("The data of %s is kept until the hold is lifted.") % hold)
    return redirect("admin:holds")


@access.page("retention.hold")
@require_POST
def lift_hold(request: HttpRequest, id: int) -> HttpResponse:
    hold = get_object_or_404(LegalHold, pk=id)
    name = str(hold)
    try:
        holds.lift(hold, request.POST.get("reason", ""), request=request)
    except ChatsiteError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The hold on %s was lifted. Deletion resumes.") % name)
    return redirect("admin:holds")


@access.page("retention.view_deletion")
@require_GET
def deletions_page(request: HttpRequest) -> HttpResponse:
    return _deletions(request)


def _deletions(request: HttpRequest, form: AccountForm | None = None) -> HttpResponse:
    pages = Paginator(Deletion.objects.all(), _PER_PAGE)
    shown = pages.get_page(request.GET.get("page"))
    values = access.context(
        request,
        _("Deletions"),
        page=shown,
        deletions=_with_lines(shown.object_list),
        form=form or AccountForm(initial={"user": request.GET.get("user", "")}),
        may_delete=request.user.has_perm("retention.delete_account"),
    )
    return render(request, "admin/privacy/deletions.html", values, status=400 if form else 200)


@access.page("retention.delete_account")
@require_POST
def delete_account(request: HttpRequest) -> HttpResponse:
    form = AccountForm(request.POST)
    if form.is_valid():
        user: User = form.cleaned_data["user"]
        by = request.user.get_username()
        try:
            deletions.request_account(
                user, by=by, reason=form.cleaned_data["reason"], request=request
            )
        except ChatsiteError as error:
            form.add_error("user", str(error))
        else:
            messages.success(request, _("The account of %s is being deleted.") % user)
            return redirect("admin:deletions")
    return _deletions(request, form)


def _with_lines(found: Any) -> list[tuple[Deletion, list[tuple[str, str]], Any]]:
    """Return deletions with their reports for a template, and the error of a failed one."""
    return [(one, Report.of(one.report).lines(), localise(one.error)) for one in found]
