"""The page of collections."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET

from chatsite.json_api import current_user
from chatsite.knowledge.models import Collection
from chatsite.policy import decisions
from chatsite.policy.features import Feature


@require_GET
@never_cache
@ensure_csrf_cookie
@login_required
async def page(request: HttpRequest, id: uuid.UUID | None = None) -> HttpResponse:
    """Render `/knowledge/`, or one collection; the page loads what it shows."""
    user = await current_user(request)

    def shown() -> HttpResponse:
        decisions.require_for_page(user, Feature.KNOWLEDGE)
        boot: dict[str, Any] = {
            "user": user.get_full_name() or user.username,
            "csrf": get_token(request),
            "features": decisions.features(user),
            "groups": [
                {"id": group.pk, "name": group.name} for group in user.groups.order_by("name")
            ],
            "login": reverse("account_login"),
            "chat": reverse("chat"),
        }
        # The page says that the collection is missing.
        missing = id is not None and not Collection.objects.readable_by(user).filter(pk=id).exists()
        status = 404 if missing else 200
        return render(request, "knowledge/page.html", {"boot": boot}, status=status)

    return await sync_to_async(shown)()
