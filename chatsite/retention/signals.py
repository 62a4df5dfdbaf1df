"""Refuses to delete users whose data must be kept, whichever code asks."""

from __future__ import annotations

from typing import Any

from django.db.models import ProtectedError
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from chatsite.accounts.models import User
from chatsite.retention import holds


@receiver(pre_delete, sender=User, dispatch_uid="retention.held_user")
def refuse_held(sender: type[User], instance: User, **kwargs: Any) -> None:
    found = list(holds.holds_of(instance))
    if found:
        raise ProtectedError(f"{instance} is under a legal hold", set(found))
