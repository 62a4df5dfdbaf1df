"""Rules, limits and quotas: auditors read, administrators change; users see their own quotas."""

from __future__ import annotations

from typing import Any

from chatsite.accounts.roles import Role
from chatsite.policy.models import Limit, Quota, Rule
from tests.integration.web.strangers.table import Row, World, admin, data, signed_in


def _rule(world: World) -> Any:
    return Rule.objects.create(effect="deny", kind="model", target="big", user=world.deactivated).pk


def _limit(world: World) -> Any:
    return Limit.objects.create(longest_answer=500, user=world.deactivated).pk


def _quota(world: World) -> Any:
    return Quota.objects.create(unit="tokens", period="day", amount=1000, user=world.deactivated).pk


FACTS = {"rule": _rule, "limit": _limit, "quota": _quota}

ROWS: list[Row] = [
    data(signed_in("chat/quotas/")),
    admin("policy/", "GET", Role.AUDITOR),
    admin("policy/limits/", "GET", Role.AUDITOR),
    admin("policy/quotas/", "GET", Role.AUDITOR),
    admin("policy/preview/", "GET", Role.AUDITOR, query="?user=owner"),
    admin("policy/defaults/", "POST", status=302, form={"model": "allow"}),
]
for _name in FACTS:
    _of = {"id": _name}
    ROWS += [
        admin(f"policy/{_name}s/add/", "POST", form={}),
        admin(f"policy/{_name}s/<int:id>/", args=_of),
        admin(f"policy/{_name}s/<int:id>/", "POST", args=_of, form={}),
        admin(f"policy/{_name}s/<int:id>/delete/", "POST", status=302, args=_of),
    ]
