"""Stops the answers of users whose access has ended. Connected by `chatsite.apps`."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from django.dispatch import receiver

from chatsite.accounts.directory.leavers import access_ended
from chatsite.answers.submit import stop_answers_of
from chatsite.errors import ChatsiteError

logger = logging.getLogger(__name__)


@receiver(access_ended)
def stop_answers(sender: object, user_ids: Collection[int], **kwargs: Any) -> None:
    """Stop what runs for these users. Without Redis the answers end by themselves, unread."""
    try:
        stopped = stop_answers_of(user_ids)
    except ChatsiteError as error:
        logger.warning("Answers of disabled users can't be stopped", extra={"error": error})
        return
    if stopped:
        logger.info("Answers of disabled users were stopped", extra={"answers": stopped})
