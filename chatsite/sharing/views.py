"""The reader's page, the owner's list, and the JSON of the owner's dialog."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.accounts.models import User
from chatsite.chat.http import json_api
from chatsite.sharing import work
from chatsite.sharing.models import Share


@require_GET
@never_cache
@login_required
def shared(request: HttpRequest, token: str) -> HttpResponse:
    """For any signed-in person. A link that was revoked answers as one that never was."""
    share = Share.objects.readable().select_related("owner").filter(token=token).first()
    if share is None:
        raise Http404
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
    if not Share.objects.of(user).filter(token=token).delete()[0]:
        raise Http404
    messages.success(request, _("The link is revoked: nobody can read it any more."))
    return redirect("own_shares")


@require_http_methods(["GET", "POST", "DELETE"])
@json_api
async def share(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """``{share: {address, taken_at, messages} | null}`` of a conversation."""
    if request.method == "DELETE":
        await sync_to_async(work.revoke)(user, id)
        return HttpResponse(status=204)
    do = work.publish if request.method == "POST" else work.found
    return JsonResponse({"share": await sync_to_async(do)(user, id)})
