"""The JSON endpoint of the search box."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from chatsite.accounts.models import User
from chatsite.errors import BadRequest
from chatsite.json_api import answered, json_api
from chatsite.numbers import natural
from chatsite.search import find


@require_GET
@never_cache
@json_api
async def search(request: HttpRequest, user: User) -> HttpResponse:
    """Search. ``q`` may be any text; ``before`` is the cursor of the previous page."""
    given = request.GET.get("before", "")
    before = natural(given, 2**63 - 1)  # the largest key of the databases
    if given and before is None:
        raise BadRequest
    text = request.GET.get("q", "").replace("\x00", "")
    found = await sync_to_async(find.search)(user, text, before)
    return answered(found)
