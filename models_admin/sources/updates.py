"""Update checks: does the source have a newer version of a model?

A check sends requests to the internet, so it runs only when an administrator starts it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.utils import timezone

from chatsite.errors import ChatsiteError
from models_admin import sources
from models_admin.models import ModelName

log = logging.getLogger(__name__)


def check(models: Iterable[ModelName]) -> tuple[list[ModelName], list[tuple[ModelName, str]]]:
    """Return the models that have an update, and those whose check failed, with the reason.

    Models without a source are skipped.
    """
    newer, failed = [], []
    for model in models:
        if not model.origin:
            continue
        try:
            found = sources.resolve(model.origin)
        except ChatsiteError as error:
            log.warning(
                "Update check failed",
                extra={"model": model.name, "source": model.origin, "error": error},
            )
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
