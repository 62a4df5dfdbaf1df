"""Folders, pins, the archive, and deletions that can be undone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.test import Client
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.accounts.sessions import group_of
from chatsite.chat import turns
from chatsite.chat.protocol import Send
from chatsite.conversations.models import Conversation, Folder, Generation, GenerationState
from chatsite.retention.tasks import purge_deleted
from chatsite.search import find


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis, for hints and stops."""


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
    """Return the titles of pinned conversations and of the view."""
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


def test_a_deleted_conversation_is_missing_until_it_is_restored(
    client: Client, alice: User, model: str
) -> None:
    turn = turns.make(alice, Send("r", "Hello there", model))
    conversation = turn.conversation
    address = f"/chat/conversations/{conversation.pk}/"
    assert client.delete(address).status_code == 204
    # A generation without a reader is stopped.
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


def test_invalid_commands_are_refused(client: Client, three: list[Conversation]) -> None:
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


def whole(client: Client, action: str, view: str = "main", **more: Any) -> list[dict[str, Any]]:
    response = post(client, "/chat/organise/", view=view, action=action, **more)
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["conversations"]
    return found


def test_page_11_one_command_applies_to_a_whole_view(
    alice: User, bob: User, client: Client
) -> None:
    folder = Folder.objects.create(owner=alice, name="Work")
    Conversation.objects.create(owner=bob, title="bob's")
    rows = [Conversation(owner=alice, title=f"t{number}") for number in range(1200)]
    rows += [Conversation(owner=alice, title="filed", folder=folder)]
    rows += [
        Conversation(owner=alice, title="pin", folder=folder, pinned_at=timezone.now()),
        Conversation(owner=alice, title="old", archived_at=timezone.now()),
    ]
    Conversation.objects.bulk_create(rows)
    counted = client.get("/chat/conversations/count/", {"view": "main"}).json()
    assert counted == {"count": 1201}
    changed = whole(client, "archive")
    assert len(changed) == 1201
    assert {item["folder"] for item in changed} == {None, str(folder.pk)}
    assert shown(client) == ([], [])
    assert Conversation.objects.of(alice).exclude(archived_at=None).count() == 1202
    assert len(whole(client, "delete", "archive")) == 1202
    assert [row.title for row in Conversation.objects.of(alice)] == ["filed"]
    assert Conversation.objects.of(bob).count() == 1
    restored = order(client, "restore", *rows[:500])
    assert len(restored) == 500


def test_page_11_a_command_names_ids_or_a_view(client: Client, three: list[Conversation]) -> None:
    for body in (
        {"action": "archive"},
        {"action": "archive", "ids": []},
        {"action": "archive", "ids": [three[0].pk], "view": "main"},
        {"action": "archive", "view": "nowhere"},
    ):
        assert post(client, "/chat/organise/", **body).status_code == 400, body
    assert post(client, "/chat/organise/", view="archive", action="pin").status_code == 404


def test_page_63_folders_and_the_archive_are_counted(
    alice: User, client: Client, three: list[Conversation]
) -> None:
    folder = Folder.objects.create(owner=alice, name="Work")
    order(client, "move", three[0], three[1], folder=folder.pk)
    order(client, "archive", three[1], three[2])
    found = client.get("/chat/conversations/").json()
    assert found["counts"] == {str(folder.pk): 1, "archive": 2}


def hints_of(user: User, change: Callable[[], object]) -> list[tuple[str | None, str]]:
    """The hints that the user's pages get while ``change`` runs."""
    layer = get_channel_layer()

    @async_to_sync
    async def join() -> str:
        channel: str = await layer.new_channel()
        await layer.group_add(group_of(user.pk), channel)
        await layer.close_pools()
        return channel

    @async_to_sync
    async def received(channel: str) -> list[tuple[str | None, str]]:
        await layer.send(channel, {"type": "last"})
        found: list[tuple[str | None, str]] = []
        while (message := await layer.receive(channel))["type"] != "last":
            assert message["type"] == "conversation.changed"
            found.append((message["conversation"], message["what"]))
        await layer.close_pools()
        return found

    channel = join()
    change()
    return received(channel)


@pytest.mark.parametrize("action", ["delete", "archive"])
def test_one_hint_tells_other_pages_of_a_change_of_many(
    alice: User, client: Client, action: str
) -> None:
    few = [Conversation.objects.create(owner=alice) for _ in range(2)]
    what = "deleted" if action == "delete" else "updated"
    hints = hints_of(alice, lambda: order(client, action, *few))
    assert sorted(hints) == sorted((str(row.pk), what) for row in few)
    many = [Conversation.objects.create(owner=alice) for _ in range(21)]
    assert hints_of(alice, lambda: order(client, action, *many)) == [(None, "updated")]
    for _ in range(21):
        Conversation.objects.create(owner=alice)
    assert hints_of(alice, lambda: whole(client, action)) == [(None, "updated")]


def test_other_pages_learn_of_folders(alice: User, client: Client) -> None:
    body = json.dumps({"name": "New name"})
    assert hints_of(alice, lambda: post(client, "/chat/folders/", name="Work")) == [
        (None, "updated")
    ]
    address = f"/chat/folders/{Folder.objects.get().pk}/"
    renamed = hints_of(alice, lambda: client.patch(address, body, content_type="application/json"))
    assert renamed == [(None, "updated")]
    assert hints_of(alice, lambda: client.delete(address)) == [(None, "updated")]
