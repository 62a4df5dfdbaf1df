"""The page of invitations and of sign-ups that wait for approval."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from chatsite.accounts import invitations, mail, signup
from chatsite.accounts.models import Invitation, User
from models_admin.adminsite.people import access, listing
from models_admin.adminsite.people.access import shown
from models_admin.adminsite.people.forms import InvitationForm

_ENDED_SHOWN = 20


@require_http_methods(["GET", "POST"])
@access.page(access.SEE)
def index(request: HttpRequest) -> HttpResponse:
    """Show the open invitations and sign-ups, or create an invitation."""
    form = InvitationForm(request.POST or None)
    url, sent_to = "", ""
    if request.method == "POST":
        if not access.may_manage(request):
            raise PermissionDenied
        if form.is_valid() and (made := _invite(request, form)):
            invitation, url = made
            if invitation.email and mail.configured():
                failure = invitations.send(invitation, url)
                if failure:
                    text = _("The invitation could not be mailed: %s") % failure
                    messages.warning(request, text)
                else:
                    sent_to = invitation.email
            form = InvitationForm()
    ended = Invitation.objects.exclude(pk__in=invitations.pending().values("pk"))
    return shown(
        request,
        "invitations.html",
        _("Invitations"),
        form=form,
        open_form=bool(form.errors),
        url=url,
        sent_to=sent_to,
        mails=mail.configured(),
        page=listing.one_page(request, invitations.pending()),
        page_query="",
        ended=ended.select_related("accepted_by")[:_ENDED_SHOWN],
        sign_ups=signup.pending(),
    )


def _invite(request: HttpRequest, form: InvitationForm) -> tuple[Invitation, str] | None:
    try:
        return invitations.create(by=access.actor(request).user, **form.cleaned_data)
    except ValidationError as error:
        if hasattr(error, "error_dict"):
            for field, errors in error.error_dict.items():
                form.add_error(field if field in form.fields else None, errors)
        else:
            form.add_error(None, error)
        return None


@require_POST
@access.page(access.MANAGE)
def revoke(request: HttpRequest, id: int) -> HttpResponse:
    found = get_object_or_404(Invitation, pk=id)
    if invitations.revoke(found, by=access.actor(request).user):
        messages.success(request, _("The invitation was revoked. Its link no longer works."))
    else:
        messages.warning(request, _("The invitation was already used or revoked."))
    return redirect("admin:people_invitations")


@require_POST
@access.page(access.MANAGE)
def decide(request: HttpRequest, id: int, action: str) -> HttpResponse:
    """Approve or refuse a sign-up that waits."""
    user = get_object_or_404(User, pk=id)
    change = signup.approve if action == "approve" else signup.refuse
    if not change(user, by=access.actor(request).user):
        messages.warning(request, _("This sign-up no longer waits."))
    elif action == "approve":
        messages.success(request, _("%s can sign in now.") % user.username)
    else:
        messages.success(request, _("The sign-up of %s was refused.") % user.username)
    return redirect("admin:people_invitations")
