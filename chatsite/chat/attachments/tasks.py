"""What was attached and never sent goes away."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.utils import timezone

from chatsite.celery import app
from chatsite.chat.attachments.models import Attachment

log = logging.getLogger(__name__)

# A draft may lie overnight.
_KEPT = timedelta(hours=36)


@app.task(ignore_result=True)
def clean_attachments() -> None:
    old = Attachment.objects.filter(conversation=None, created_at__lt=timezone.now() - _KEPT)
    count, _ = old.delete()
    if count:
        log.info("%d attachments that were never sent are deleted", count)
