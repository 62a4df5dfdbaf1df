"""Terms of use, the announcement and the logo."""

from __future__ import annotations

from tests.integration.web.strangers.table import Row, public, signed_in

FACTS = {"logo": lambda world: "unknown"}

ROWS: list[Row] = [
    signed_in("accounts/terms/"),
    signed_in("accounts/terms/", "POST", 302),
    signed_in("accounts/notices/"),
    signed_in("accounts/announcement/dismiss/", "POST", 302),
    public("logo/<slug:digest>", status=404, args={"digest": "logo"}),
]
