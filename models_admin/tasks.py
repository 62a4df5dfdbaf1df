"""Background jobs of the model store."""

from __future__ import annotations

import logging

from celery import shared_task

from models_admin import store

logger = logging.getLogger(__name__)


@shared_task(name="models_admin.tasks.clean_partials")
def clean_partials() -> None:
    """Runs by beat. Removes what killed imports left, and nothing that is being written."""
    for name in store.clean_partials():
        logger.info("Removed %s, left by an import that was killed", name)
