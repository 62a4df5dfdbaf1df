"""What the first page of the administration shows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db.models import Count, Sum
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.chat.models import Generation, GenerationState
from chatsite.inference import status
from models_admin.models import ModelName, ModelVersion

logger = logging.getLogger(__name__)

# Seconds that the page waits for Redis before it says that it can't tell.
_PATIENCE = 2.0


@dataclass(frozen=True)
class Dashboard:
    """``hosts`` is None when Redis does not answer; ``stored`` is in bytes."""

    people: int
    administrators: int
    waiting: int
    running: int
    stored: int
    models: list[ModelName]
    hosts: list[status.HostStatus] | None


def build() -> Dashboard:
    active = User.objects.filter(is_active=True)
    counted = Generation.objects.open().values_list("state").annotate(Count("pk"))
    open_generations: dict[Any, int] = dict(counted.order_by())
    return Dashboard(
        people=active.count(),
        administrators=active.filter(is_superuser=True).count(),
        waiting=open_generations.get(GenerationState.QUEUED, 0),
        running=open_generations.get(GenerationState.RUNNING, 0),
        stored=ModelVersion.objects.aggregate(total=Sum("size"))["total"] or 0,
        models=list(ModelName.objects.select_related("version")),
        hosts=hosts(),
    )


def hosts() -> list[status.HostStatus] | None:
    """The inference hosts that are alive; None when Redis can't be asked."""
    try:
        return async_to_sync(_hosts)()
    except (RedisError, OSError) as error:
        logger.warning("Redis does not answer: %s", error)
        return None


async def _hosts() -> list[status.HostStatus]:
    async with Redis.from_url(
        settings.REDIS_URL, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
    ) as redis:
        return await status.alive(redis)
