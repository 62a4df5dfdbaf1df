"""`/healthz`: whether a chat would work now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.asyncio import Redis

from chatsite.inference import status
from models_admin import catalogue

logger = logging.getLogger(__name__)

# Seconds that one part may take to answer.
_PATIENCE = 3.0

T = TypeVar("T")


@never_cache
@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    """200 when a chat would work, also (``no_model``) when only a model is missing, which an
    operator brings in while everything runs; else 503 with the parts that are ``missing``.

    Anybody may ask: the answer has counts, no names.
    """
    models, hosts = await asyncio.gather(
        _answer("database", sync_to_async(catalogue.offered)()), _answer("redis", _hosts())
    )
    missing = []
    if models is None:
        missing.append("database")
    if hosts is None:
        missing.append("redis")
    elif not hosts:
        missing.append("inference")
    if missing:
        return JsonResponse({"status": "unavailable", "missing": missing}, status=503)
    return JsonResponse(
        {
            "status": "ok" if models else "no_model",
            "models": len(models or ()),
            "hosts": len(hosts or ()),
        }
    )


async def _hosts() -> list[status.HostStatus]:
    async with Redis.from_url(
        settings.REDIS_URL, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
    ) as redis:
        return await status.alive(redis)


async def _answer(name: str, part: Awaitable[T]) -> T | None:
    """What a part answers; None when it fails, however it does, or takes too long."""
    try:
        return await asyncio.wait_for(part, _PATIENCE)
    except Exception as error:  # noqa: BLE001  (a probe must answer whatever is wrong)
        logger.warning("%s does not answer: %r", name, error)
        return None
