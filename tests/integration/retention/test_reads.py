"""Reads of conversations by administrators: with a reason, recorded, told to the owner."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.conversations.models import Conversation
from chatsite.retention import holds
from chatsite.retention.models import AdminRead
from models_admin.adminsite.privacy import reads
from tests.support.conversations import write

BEGIN = "/admin/privacy/reads/begin/"


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis."""


@pytest.fixture
def auditor(transactional_db: None) -> User:
    return User.objects.create_user("audrey", password="x", role=Role.AUDITOR)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(reads, "record", lambda kind, **more: found.append({"kind": kind} | more))
    return found


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_a_read_needs_permission_setting_and_reason(
    alice: User, bob: User, auditor: User, site: Any, events: list[dict[str, Any]], unbuilt: None
) -> None:
    id = write("alice", ["A secret answer"], title="A secret title")
    client = signed_in(auditor)
    asked = {"conversation": id, "reason": "Complaint 42"}
    assert client.post(BEGIN, asked).status_code == 403, "forbidden by default"
    assert b"Not allowed on this site" in client.get("/admin/privacy/reads/?user=alice").content
    assert (events[-1]["kind"], events[-1]["outcome"]) == ("conversation.read", "denied")
    site(admin_reads="with_reason")
    assert signed_in(bob).post(BEGIN, asked).status_code in {302, 403}
    listed = client.get("/admin/privacy/reads/?user=alice").content.decode()
    assert id in listed
    assert "secret" not in listed
    assert client.post(BEGIN, asked | {"reason": " x"}).status_code == 400
    assert not AdminRead.objects.exists()
    response = client.post(BEGIN, asked)
    shown = client.get(response.headers["Location"]).content.decode()
    assert "A secret answer" in shown
    assert "Complaint 42" in shown
    assert "<form" not in shown.split("</header>")[-1], "read-only"
    made = AdminRead.objects.get()
    assert (made.owner, made.reader, made.messages) == (alice, "audrey", 2)
    event = events[-1]
    assert (event["reason"], event["owner"], event["messages"]) == ("Complaint 42", "alice", 2)
    assert "secret" not in str(event)
    # Only its reader sees it, and for an hour.
    other = User.objects.create_user("oscar", password="x", role=Role.AUDITOR)
    address = response.headers["Location"]
    assert signed_in(other).get(address).status_code == 404
    AdminRead.objects.update(created_at=timezone.now() - timedelta(minutes=61))
    assert client.get(address).status_code == 404


def test_the_owner_is_told_until_confirmation(
    alice: User, bob: User, site: Any, unbuilt: None
) -> None:
    id = write("alice", ["An answer"], title="My title")
    made = AdminRead.objects.create(
        owner=alice,
        conversation=Conversation.objects.get(pk=id),
        reader="Root Admin",
        reason="Complaint 42",
    )
    client = signed_in(alice)
    page = client.get("/").content.decode()
    assert "Root Admin" in page
    assert "Complaint 42" in page
    assert "Root Admin" not in signed_in(bob).get("/").content.decode()
    assert signed_in(bob).post(f"/chat/reads/{made.pk}/").status_code == 404
    assert client.post(f"/chat/reads/{made.pk}/").status_code == 204
    assert "Root Admin" not in client.get("/").content.decode()
    assert "Root Admin" in client.get("/accounts/data/").content.decode()


def test_deleted_chats_are_read_only_under_a_hold(alice: User, auditor: User, site: Any) -> None:
    site(admin_reads="with_reason")
    id = write("alice", ["An answer"])
    Conversation.objects.update(deleted_at=timezone.now())
    client = signed_in(auditor)
    asked = {"conversation": id, "reason": "Complaint 42"}
    assert client.post(BEGIN, asked).status_code == 404
    holds.place("Case 1", by="root", user=alice)
    assert client.post(BEGIN, asked).status_code == 302
