"""Deletion of attachments that were never sent."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from chatsite.celery import app
from chatsite.conversations.attachments.models import Attachment

log = logging.getLogger(__name__)

# A draft may be left overnight.
_KEPT = timedelta(hours=36)
# An upload that is incomplete after this time has been abandoned.
_COMING = timedelta(hours=1)


@app.task(name="chatsite.conversations.clean_attachments", ignore_result=True)
def clean_attachments() -> None:
    now = timezone.now()
    old = Q(created_at__lt=now - _KEPT) | Q(created_at__lt=now - _COMING, ready=False)
    count, _ = Attachment.objects.filter(old, conversation=None).delete()
    if count:
        log.info("Deleted attachments that were never sent", extra={"count": count})
