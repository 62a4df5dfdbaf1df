"""Whether the source of a model has a newer version of it. Asks outside, so only when an
administrator wants it to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from django.utils import timezone

from chatsite.errors import ChatsiteError
from models_admin import sources
from models_admin.models import ModelName

log = logging.getLogger(__name__)


def check(models: Iterable[ModelName]) -> tuple[list[ModelName], list[tuple[ModelName, str]]]:
    """Those that have an update, and those whose source could not be asked, with the reason.
    Models that came from no source are passed over."""
    newer, failed = [], []
    for model in models:
        if not model.origin:
            continue
        try:
            found = asyncio.run(sources.resolve(model.origin))
        except ChatsiteError as error:
            log.warning("%s: its source %s does not tell: %s", model, model.origin, error)
            failed.append((model, str(error)))
            continue
        model.newest = found.version
        model.checked_at = timezone.now()
        ModelName.objects.filter(pk=model.pk).update(
            newest=model.newest, checked_at=model.checked_at
        )
        if model.has_update:
            newer.append(model)
    return newer, failed
