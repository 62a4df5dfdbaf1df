"""The audit log: for auditors and administrators."""

from __future__ import annotations

from typing import Any

from chatsite.accounts.roles import Role
from chatsite.audit import chain
from chatsite.audit.record import event
from tests.integration.web.strangers.table import Row, World, admin

AUDITOR = Role.AUDITOR


def _event(world: World) -> Any:
    head = chain.head(lock=True)
    chain.append([event("auth.login", user=world.owner, details={})], head)
    return head.sequence


FACTS = {"event": _event}

ROWS: list[Row] = [
    admin("audit/", "GET", AUDITOR),
    admin("audit/<int:sequence>/", "GET", AUDITOR, args={"sequence": "event"}),
    admin("audit/export/", "GET", AUDITOR, query="?format=csv"),
    admin("audit/verify/", "POST", AUDITOR, status=302),
]
