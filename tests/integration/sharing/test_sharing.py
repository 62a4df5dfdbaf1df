"""A share is a copy for signed-in users until its owner revokes it."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.conversations.models import Conversation, Message
from chatsite.exchange import taking
from tests.integration.exchange.test_exchange import trees

# The CSRF token of the form that changes the language.
_TOKEN = re.compile(r'csrfmiddlewaretoken" value="\w+"')


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis, which the chat page asks."""


@pytest.fixture
def conversation(alice: User) -> Conversation:
    """Return a question with two answers, the second of which is shown."""
    taking.take(alice, trees())
    return Conversation.objects.of(alice).get()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def address(conversation: Conversation) -> str:
    return f"/chat/conversations/{conversation.pk}/share/"


def publish(client: Client, conversation: Conversation) -> dict[str, Any]:
    found: dict[str, Any] = client.post(address(conversation)).json()["share"]
    return found


def test_readers_see_the_shown_branch_and_nothing_else(
    alice: User, bob: User, conversation: Conversation
) -> None:
    owner, reader = signed_in(alice), signed_in(bob)
    assert owner.get(address(conversation)).json() == {"share": None}
    share = publish(owner, conversation)
    assert share["messages"] == 2
    page = reader.get(share["address"])
    assert page.status_code == 200
    text = page.content.decode()
    assert "Second **answer**" in text
    assert "First answer" not in text
    assert str(conversation.pk) not in text
    assert conversation.head is not None
    Message.objects.create(
        conversation=conversation, parent=conversation.head, role="user", content="private later"
    )
    assert "private later" not in reader.get(share["address"]).content.decode()
    # Sharing grants no other permission, and no list of others' shares.
    assert reader.get(f"/chat/conversations/{conversation.pk}/").status_code == 404
    assert share["address"] not in reader.get("/share/").content.decode()
    anonymous = Client().get(share["address"])
    assert (anonymous.status_code, anonymous["Location"][:17]) == (302, "/accounts/login/?")


def test_sharing_again_keeps_the_link(alice: User, bob: User, conversation: Conversation) -> None:
    owner = signed_in(alice)
    first = publish(owner, conversation)
    conversation.head = conversation.messages.get(content="First answer")
    conversation.title = "Renamed"
    conversation.save()
    assert publish(owner, conversation)["address"] == first["address"]
    text = signed_in(bob).get(first["address"]).content.decode()
    assert "First answer" in text
    assert "Second" not in text
    assert "Renamed" in owner.get("/share/").content.decode()


@pytest.mark.parametrize("how", ["dialog", "list", "delete", "leave"])
def test_a_revoked_share_looks_missing(
    alice: User, bob: User, conversation: Conversation, how: str
) -> None:
    owner, reader = signed_in(alice), signed_in(bob)
    link = publish(owner, conversation)["address"]
    if how == "dialog":
        assert owner.delete(address(conversation)).status_code == 204
    elif how == "list":
        assert owner.post(f"{link}revoke/").status_code == 302
    elif how == "delete":
        owner.delete(f"/chat/conversations/{conversation.pk}/")
    else:
        User.objects.filter(pk=alice.pk).update(is_active=False)
    gone, never = reader.get(link), reader.get("/share/neverwasanylink/")
    assert (gone.status_code, never.status_code) == (404, 404)
    bare = [
        _TOKEN.sub("", response.content.decode()).replace(place, "")
        for response, place in ((gone, link), (never, "/share/neverwasanylink/"))
    ]
    assert bare[0] == bare[1]


def test_only_the_owner_shares_and_revokes(
    alice: User, bob: User, conversation: Conversation
) -> None:
    link = publish(signed_in(alice), conversation)["address"]
    stranger = signed_in(bob)
    for id in (conversation.pk, uuid.uuid4()):
        there = f"/chat/conversations/{id}/share/"
        assert stranger.get(there).status_code == 404
        assert stranger.post(there).status_code == 404
        assert stranger.delete(there).status_code == 404
    assert stranger.post(f"{link}revoke/").status_code == 404
    assert stranger.get(link).status_code == 200


def test_an_empty_conversation_is_not_shared(alice: User) -> None:
    empty = Conversation.objects.create(owner=alice)
    response = signed_in(alice).post(address(empty))
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "nothing_to_share"
