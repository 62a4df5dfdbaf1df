"""The search box's JSON."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from chatsite.accounts.models import User
from chatsite.chat.http import json_api
from chatsite.errors import BadRequest
from chatsite.search import find


@require_GET
@never_cache
@json_api
async def search(request: HttpRequest, user: User) -> HttpResponse:
    """``q`` is what was typed, of which any text is fine; ``before`` is from the page before."""
    before = request.GET.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 20):
        raise BadRequest
    if before and int(before) >= 2**63:  # more than a key of the databases can be
        raise BadRequest
    text = request.GET.get("q", "").replace("\x00", "")
    found = await sync_to_async(find.search)(user, text, int(before) if before else None)
    return JsonResponse(found)
