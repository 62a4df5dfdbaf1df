"""Folders, pins, the archive, and deletions that can be taken back."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.chat import turns
from chatsite.chat.models import Conversation, Folder, Generation, GenerationState
from chatsite.chat.protocol import Send
from chatsite.chat.tasks import purge_deleted
from chatsite.search import find


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Hints and stops go through it."""


@pytest.fixture
def client(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def three(alice: User) -> list[Conversation]:
    now = timezone.now()
    return [
        Conversation.objects.create(
            owner=alice, title=f"t{number}", updated_at=now - timedelta(minutes=number)
        )
        for number in range(3)
    ]


def post(client: Client, address: str, **body: Any) -> Any:
    return client.post(address, json.dumps(body, default=str), content_type="application/json")


def order(client: Client, action: str, *rows: Conversation, **more: Any) -> list[dict[str, Any]]:
    response = post(client, "/chat/organise/", ids=[row.pk for row in rows], action=action, **more)
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["conversations"]
    return found


def shown(client: Client, view: str = "main") -> tuple[list[str], list[str]]:
    """Titles of the pinned ones and of the view."""
    found = client.get("/chat/conversations/", {"view": view}).json()
    return tuple([item["title"] for item in found[key]] for key in ("pinned", "conversations"))  # type: ignore[return-value]


def test_each_step_and_back(client: Client, three: list[Conversation]) -> None:
    assert shown(client) == ([], ["t0", "t1", "t2"])
    assert order(client, "pin", three[2])[0]["pinned"]
    assert shown(client) == (["t2"], ["t0", "t1"])
    order(client, "archive", three[1], three[2])
    assert shown(client) == ([], ["t0"])
    assert shown(client, "archive") == ([], ["t1", "t2"])
    order(client, "unarchive", *three)
    folder = post(client, "/chat/folders/", name="  Work \n plans ").json()["folder"]
    assert folder["name"] == "Work plans"
    order(client, "move", three[0], three[1], folder=folder["id"])
    assert shown(client) == ([], ["t2"])
    assert shown(client, folder["id"]) == ([], ["t0", "t1"])
    order(client, "move", three[0])
    assert shown(client) == ([], ["t0", "t2"])
    assert client.delete(f"/chat/folders/{folder['id']}/").status_code == 204
    assert shown(client) == ([], ["t0", "t1", "t2"])


def test_deleted_is_missing_until_it_is_brought_back(
    client: Client, alice: User, model: str
) -> None:
    turn = turns.make(alice, Send("r", "Hello there", model))
    conversation = turn.conversation
    address = f"/chat/conversations/{conversation.pk}/"
    assert client.delete(address).status_code == 204
    # Nobody will read it: it is stopped.
    assert Generation.objects.get().state == GenerationState.CANCELLED
    assert client.get(address).status_code == 404
    assert client.get(f"/c/{conversation.pk}/").status_code == 404
    assert shown(client) == ([], [])
    assert find.search(alice, "hello")["results"] == []
    purge_deleted()
    order(client, "restore", conversation)
    assert client.get(address).status_code == 200
    assert find.search(alice, "hello")["results"]
    order(client, "delete", conversation)
    Conversation.objects.update(deleted_at=timezone.now() - timedelta(hours=2))
    purge_deleted()
    assert not Conversation.objects.exists()


def test_a_stranger_can_do_nothing(bob: User, alice: User, three: list[Conversation]) -> None:
    client = Client()
    client.force_login(bob)
    own = Conversation.objects.create(owner=bob, title="mine")
    folder = Folder.objects.create(owner=alice, name="hers")
    for action in ("pin", "archive", "delete", "restore", "move"):
        body = {"ids": [three[0].pk, uuid.uuid4()], "action": action}
        assert post(client, "/chat/organise/", **body).status_code == 404
    assert [item["title"] for item in order(client, "archive", own, three[0])] == ["mine"]
    assert (
        post(client, "/chat/organise/", ids=[own.pk], action="move", folder=folder.pk).status_code
        == 404
    )
    address = f"/chat/folders/{folder.pk}/"
    assert (
        client.patch(address, '{"name": "x"}', content_type="application/json").status_code == 404
    )
    assert client.delete(address).status_code == 404
    assert (
        client.get("/chat/conversations/", {"view": str(folder.pk)}).json()["conversations"] == []
    )
    assert not Conversation.objects.filter(owner=alice).exclude(archived_at=None).exists()


def test_bad_orders_are_refused(client: Client, three: list[Conversation]) -> None:
    for body in (
        {"ids": [], "action": "pin"},
        {"ids": [str(three[0].pk)], "action": "burn"},
        {"ids": ["x"], "action": "pin"},
        {"ids": [str(three[0].pk)], "action": "pin", "owner": 1},
    ):
        assert post(client, "/chat/organise/", **body).status_code == 400, body
    assert client.get("/chat/conversations/", {"view": "x"}).status_code == 400
    post(client, "/chat/folders/", name="Travel")
    taken = post(client, "/chat/folders/", name="tRAVEL")
    assert taken.status_code == 409
    assert taken.json()["error"]["code"] == "name_taken"
    for name in ("", "  ", "x" * 61):
        assert post(client, "/chat/folders/", name=name).status_code == 400


def test_pins_are_bounded(client: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatsite.chat.organise.PINS_MAX", 2)
    rows = Conversation.objects.bulk_create(Conversation(owner=alice) for _ in range(3))
    response = post(client, "/chat/organise/", ids=[row.pk for row in rows], action="pin")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "too_many"
    assert not Conversation.objects.exclude(pinned_at=None).exists()
