"""Own data, retention, legal holds, deletions and administrators' reads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from chatsite.accounts.roles import Role
from chatsite.conversations.models import Conversation
from chatsite.retention import exporting
from chatsite.retention.models import AdminRead, Export, LegalHold, WorkState
from chatsite.site_settings import cache
from tests.integration.web.strangers.table import Row, World, admin, data, own, signed_in


def _export(world: World) -> Any:
    later = timezone.now() + timedelta(hours=1)
    export = Export.objects.create(owner=world.owner, state=WorkState.DONE, expires_at=later)
    path = exporting.path_of(export)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"zip")
    return export.pk


def _read(world: World, reader: str = "root") -> Any:
    conversation = Conversation.objects.get(pk=world.fact("conversation"))
    return AdminRead.objects.create(
        owner=world.owner,
        conversation=conversation,
        reader="Root",
        reader_user=getattr(world, reader),
    ).pk


def _shown_read(world: World) -> Any:
    """Allow reads, as the settings page does."""
    cache.cache.put({"admin_reads": "with_reason"})
    return _read(world)


def _others_read(world: World) -> Any:
    cache.cache.put({"admin_reads": "with_reason"})
    return _read(world, "manager")


FACTS = {
    "export": _export,
    "read": _read,
    "shown_read": _shown_read,
    "others_read": _others_read,
    "hold": lambda world: LegalHold.objects.create(user=world.other, reason="Case 1").pk,
}

ROWS: list[Row] = [
    data(own("chat/reads/<uuid:id>/", "POST", 204, args={"id": "read"})),
    signed_in("accounts/data/"),
    signed_in("accounts/data/export/", "POST", 302),
    own("accounts/data/export/<uuid:id>/", args={"id": "export"}, out=404),
    signed_in("accounts/data/chats/", "POST", 400, form={}),
    signed_in("accounts/data/account/", "POST", 302, form={}),
    admin("privacy/retention/"),
    admin("privacy/retention/group/", "POST", status=400, form={}),
    admin("privacy/retention/run/", "POST", status=302),
    admin("privacy/holds/"),
    admin("privacy/holds/place/", "POST", status=400, form={}),
    admin("privacy/holds/<int:id>/lift/", "POST", status=302, args={"id": "hold"}),
    admin("privacy/deletions/"),
    admin("privacy/deletions/account/", "POST", status=400, form={}),
    admin("privacy/reads/", "GET", Role.AUDITOR),
    # The settings of these rows allow reads: the fact changes them.
    admin("privacy/reads/begin/", "POST", Role.AUDITOR, status=400, query="?of=$shown_read"),
    # A read of another administrator counts as missing.
    admin("privacy/reads/<uuid:id>/", "GET", Role.AUDITOR, status=404, args={"id": "others_read"}),
]
