"""JSON endpoints of the page: the ratings of a conversation, and of one answer."""

from __future__ import annotations

import uuid

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.feedback import ratings
from chatsite.json_api import answered, decoded, json_api


@require_GET
@json_api
async def of_conversation(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Return ``{ratings: {message ID: rating}}``."""
    return answered(await sync_to_async(ratings.of_conversation)(user, id))


@require_http_methods(["PUT", "DELETE"])
@json_api
async def of_message(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Save or remove the rating of an answer: ``{rating}``, or nothing."""
    target = ("message", str(id), "")
    if request.method == "DELETE":
        if await sync_to_async(ratings.remove)(user, id):
            record("feedback.withdrawn", request=request, user=user, target=target)
        return HttpResponse(status=204)
    changed = await sync_to_async(ratings.rate)(user, id, decoded(request, ratings.Rating))
    if changed.consent:
        kind = "feedback.shared" if changed.consent == "given" else "feedback.withdrawn"
        record(kind, request=request, user=user, target=target)
    return answered({"rating": changed.rating})
