"""Notice changes of the policy and of group memberships."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import F
from django.db.models.signals import m2m_changed, post_delete, post_save

from chatsite.policy import snapshot
from chatsite.policy.models import Default, Limit, Quota, Revision, Rule


def changed(**kwargs: Any) -> None:
    """Increment the revision in the change's own transaction: it becomes visible with it."""
    if not Revision.objects.filter(pk=1).update(number=F("number") + 1):
        Revision.objects.get_or_create(pk=1, defaults={"number": 1})
    snapshot.forget()


def _members_changed(**kwargs: Any) -> None:
    snapshot.forget()


for _model in (Rule, Default, Limit, Quota):
    for _signal in (post_save, post_delete):
        _signal.connect(changed, sender=_model, dispatch_uid="policy_changed")
m2m_changed.connect(
    _members_changed, sender=get_user_model().groups.through, dispatch_uid="policy_members"
)
