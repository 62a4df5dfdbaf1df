"""The shared page, the owner's list, and the JSON endpoint of the share dialog."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.json_api import answered, json_api
from chatsite.sharing import work
from chatsite.sharing.models import Share


@require_GET
@never_cache
@login_required
def shared(request: HttpRequest, token: str) -> HttpResponse:
    """Show a share to any signed-in user. A revoked link looks like an unknown one."""
    share = Share.objects.readable().select_related("owner").filter(token=token).first()
    if share is None:
        raise Http404
    if share.owner_id != request.user.pk:
        record(
            "share.opened",
            request=request,
            target=_target(share.conversation_id),
            owner=share.owner.get_username(),
        )
    context: dict[str, Any] = {
        "share": share,
        "owner": share.owner.get_full_name() or share.owner.username,
        "own": share.owner_id == request.user.pk,
    }
    return render(request, "sharing/shared.html", context)


@require_GET
@never_cache
@login_required
def own(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    shares = Share.objects.of(user).defer("messages").order_by("-taken_at")
    return render(request, "sharing/own.html", {"shares": shares})


@require_POST
@login_required
def revoke(request: HttpRequest, token: str) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (`login_required`)
    share = Share.objects.of(user).filter(token=token).first()
    if share is None:
        raise Http404
    share.delete()
    record("share.revoked", request=request, target=_target(share.conversation_id))
    messages.success(request, _("The link was revoked. It can no longer be opened."))
    return redirect("own_shares")


@require_http_methods(["GET", "POST", "DELETE"])
@json_api
async def share(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Return, create or revoke a share: ``{share: {address, taken_at, messages} | null}``."""
    if request.method == "DELETE":
        await sync_to_async(work.revoke)(user, id)
        record("share.revoked", request=request, user=user, target=_target(id))
        return HttpResponse(status=204)
    if request.method == "POST":
        published = await sync_to_async(work.publish)(user, id)
        record("share.created", request=request, user=user, target=_target(id))
        return answered({"share": published})
    return answered({"share": await sync_to_async(work.found)(user, id)})


def _target(conversation: uuid.UUID) -> tuple[str, str, str]:
    """Return the ID alone: a title is content."""
    return "conversation", str(conversation), ""
