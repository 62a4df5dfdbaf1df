"""What is done to conversations in the background."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from chatsite.celery import app
from chatsite.chat.models import Conversation

# As long a deletion can be taken back.
_KEPT = timedelta(hours=1)
_BATCH = 100


@app.task(ignore_result=True)
def purge_deleted() -> None:
    gone = Conversation.objects.filter(deleted_at__lt=timezone.now() - _KEPT)
    while ids := list(gone.values_list("pk", flat=True)[:_BATCH]):
        Conversation.objects.filter(pk__in=ids).delete()
