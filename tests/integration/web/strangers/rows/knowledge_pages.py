"""The page of collections, and that of administrators."""

from __future__ import annotations

from chatsite.accounts.roles import Role
from tests.integration.web.strangers.table import Row, admin, own, signed_in

ROWS: list[Row] = [
    signed_in("knowledge/", feature="knowledge"),
    own("knowledge/<uuid:id>/", args={"id": "books"}, feature="knowledge"),
    admin("knowledge/", "GET", Role.AUDITOR),
    admin("knowledge/retry/", "POST", status=302),
]
