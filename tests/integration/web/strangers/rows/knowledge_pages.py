"""The page of collections for administrators."""

from __future__ import annotations

from chatsite.accounts.roles import Role
from tests.integration.web.strangers.table import Row, admin

ROWS: list[Row] = [
    admin("knowledge/", "GET", Role.AUDITOR),
    admin("knowledge/retry/", "POST", status=302),
]
