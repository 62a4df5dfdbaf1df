"""What is done to conversations in the background."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from chatsite.celery import app
from chatsite.chat.models import Conversation

# As long a deletion can be taken back.
_KEPT = timedelta(hours=1)
_BATCH = 100


@app.task(ignore_result=True)
def purge_deleted() -> None:
    gone = Conversation.objects.filter(deleted_at__lt=timezone.now() - _KEPT)
    while _purge(gone[:_BATCH]):
        pass


@transaction.atomic
def _purge(gone: QuerySet[Conversation]) -> int:
    # Locked: one that is brought back in this moment stays.
    ids = list(gone.select_for_update().values_list("pk", flat=True))
    Conversation.objects.filter(pk__in=ids).delete()
    return len(ids)
