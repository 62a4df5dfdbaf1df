"""What was attached and never sent goes away."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from chatsite.celery import app
from chatsite.chat.attachments.models import Attachment

log = logging.getLogger(__name__)

# A draft may lie overnight.
_KEPT = timedelta(hours=36)
# What has not come in whole by then never will.
_COMING = timedelta(hours=1)


@app.task(ignore_result=True)
def clean_attachments() -> None:
    now = timezone.now()
    old = Q(created_at__lt=now - _KEPT) | Q(created_at__lt=now - _COMING, ready=False)
    count, _ = Attachment.objects.filter(old, conversation=None).delete()
    if count:
        log.info("%d attachments that were never sent are deleted", count)
