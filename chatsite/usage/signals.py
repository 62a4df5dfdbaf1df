"""What deletions would take away is counted first.

A receiver of `pre_delete` runs in the transaction of the deletion, before it removes any row.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from chatsite.accounts.models import ApiKey
from chatsite.conversations.models import Conversation
from chatsite.usage import rollup


@receiver(pre_delete, sender=Conversation)
@receiver(pre_delete, sender=ApiKey)
@receiver(pre_delete, sender=get_user_model())
def count_before_deletion(**_signal: Any) -> None:
    """Count what has ended. One query of an empty index where nothing is left to count."""
    rollup.count_ended()
