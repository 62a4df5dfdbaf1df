"""Ratings: changed, removed, shared by consent only, and counted after deletion."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.conversations.models import Conversation, Generation, Message
from chatsite.feedback import ratings, summary
from chatsite.feedback.models import Comment, Feedback, SharedBranch
from chatsite.retention.deletions import purge_deleted
from chatsite.site_settings import save
from models_admin.models import ModelName
from tests.support.conversations import write

ADMIN = "/admin/usage/feedback/"


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis, which the pages ask."""


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the kinds of audit events, as they are recorded."""
    kinds: list[str] = []

    def note(kind: str, **_details: Any) -> None:
        kinds.append(kind)

    monkeypatch.setattr("chatsite.feedback.views.record", note)
    monkeypatch.setattr("models_admin.adminsite.usage.feedback.record", note)
    return kinds


@pytest.fixture
def conversation(alice: User) -> Conversation:
    return Conversation.objects.get(pk=write("alice", ["First secret", "Second secret"]))


@pytest.fixture
def administrator(transactional_db: None) -> Client:
    root = User.objects.create_superuser("root", password="x")
    return signed_in(root)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def answers(conversation: Conversation) -> list[Message]:
    return list(conversation.messages.filter(role="assistant").order_by("created_at"))


def address(message: Message | uuid.UUID) -> str:
    return f"/chat/messages/{getattr(message, 'pk', message)}/feedback/"


def put(client: Client, message: Message, **rating: Any) -> Any:
    return client.put(address(message), rating, content_type="application/json")


def test_a_rating_is_saved_changed_and_removed(alice: User, conversation: Conversation) -> None:
    client, first = signed_in(alice), answers(conversation)[0]
    made = put(client, first, vote="down", reason="wrong", comment="  It is 4.  ")
    assert made.status_code == 200
    rating = {"vote": "down", "reason": "wrong", "comment": "It is 4.", "shared": False}
    assert made.json() == {"rating": rating}
    listed = client.get(f"/chat/conversations/{conversation.pk}/feedback/")
    assert listed.json() == {"ratings": {str(first.pk): rating}}
    assert put(client, first, vote="up").status_code == 200
    saved = Feedback.objects.get()
    assert (saved.vote, saved.reason, saved.model) == ("up", "", "smollm2:135m")
    assert not Comment.objects.exists()
    assert client.delete(address(first)).status_code == 204
    assert client.delete(address(first)).status_code == 204, "removing twice is no error"
    assert not Feedback.objects.exists()


def test_ratings_are_part_of_ones_own_data(alice: User, conversation: Conversation) -> None:
    first = answers(conversation)[0]
    put(signed_in(alice), first, vote="down", comment="No")
    (found,) = ratings.given_by(alice)
    assert (found["message"], found["vote"], found["comment"]) == (str(first.pk), "down", "No")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"vote": "sideways"}, 400, "bad_request"),
        ({}, 400, "bad_request"),
        ({"vote": "up", "reason": "wrong"}, 400, "wrong_reason"),
        ({"vote": "up", "reason": "because"}, 400, "wrong_reason"),
        ({"vote": "up", "comment": "x" * 2001}, 400, "bad_request"),
    ],
)
def test_bad_ratings_are_refused(
    alice: User, conversation: Conversation, body: dict[str, str], status: int, code: str
) -> None:
    answer = put(signed_in(alice), answers(conversation)[0], **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert not Feedback.objects.exists()


def test_only_finished_answers_of_ones_own_are_rated(
    alice: User, bob: User, conversation: Conversation
) -> None:
    first = answers(conversation)[0]
    question = conversation.messages.filter(role="user")[0]
    assert put(signed_in(alice), question, vote="up").status_code == 409
    Generation.objects.filter(message=first).update(state="running")
    assert put(signed_in(alice), first, vote="up").json()["error"]["code"] == "not_an_answer"
    for client, status in ((signed_in(bob), 404), (Client(), 401)):
        assert put(client, first, vote="up").status_code == status
        assert client.delete(address(first)).status_code == status
        of_all = f"/chat/conversations/{conversation.pk}/feedback/"
        assert client.get(of_all).status_code == status
    assert put(signed_in(alice), uuid.uuid4(), vote="up").status_code == 404  # type: ignore[arg-type]


def test_administrators_read_a_conversation_by_consent_only(
    alice: User, conversation: Conversation, administrator: Client, recorded: list[str]
) -> None:
    client, (first, second) = signed_in(alice), answers(conversation)
    put(client, first, vote="down", reason="wrong", comment="Not true")
    page = administrator.get(ADMIN).content.decode()
    assert "Not true" in page
    assert "Wrong or made up" in page
    assert "secret" not in page
    number = Feedback.objects.get().pk
    assert administrator.get(f"{ADMIN}{number}/").status_code == 404
    assert recorded == []
    put(client, first, vote="down", reason="wrong", comment="Not true", shared=True)
    assert recorded == ["feedback.shared"]
    read = administrator.get(f"{ADMIN}{number}/").content.decode()
    assert "First secret" in read
    assert "Second secret" not in read, "the branch up to the rated answer"
    assert "alice" not in read
    # The copy stays as it was shared.
    Message.objects.filter(pk=first.pk).update(content="changed later")
    put(client, first, vote="down", comment="Still not true", shared=True)
    assert "First secret" in administrator.get(f"{ADMIN}{number}/").content.decode()
    put(client, first, vote="down", shared=False)
    assert administrator.get(f"{ADMIN}{number}/").status_code == 404
    put(client, second, vote="up", shared=True)
    client.delete(address(second))
    assert not SharedBranch.objects.exists()
    assert recorded == [
        *("feedback.shared", "feedback.read", "feedback.read", "feedback.withdrawn"),
        *("feedback.shared", "feedback.withdrawn"),
    ]


def test_deletion_takes_the_copy_and_the_comment_and_leaves_the_count(
    alice: User, conversation: Conversation, administrator: Client
) -> None:
    client, first = signed_in(alice), answers(conversation)[0]
    put(client, first, vote="down", reason="wrong", comment="Not true", shared=True)
    number = Feedback.objects.get().pk
    assert client.delete(f"/chat/conversations/{conversation.pk}/").status_code < 300
    assert administrator.get(f"{ADMIN}{number}/").status_code == 404, "at once"
    assert "Not true" not in administrator.get(ADMIN).content.decode()
    Conversation.objects.update(deleted_at="2020-01-01T00:00Z")
    purge_deleted()
    assert not SharedBranch.objects.exists()
    assert not Comment.objects.exists()
    assert [(one.down, one.satisfaction) for one in summary.by_model()] == [(1, 0.0)]
    alice.delete()
    assert [one.down for one in summary.by_model()] == [1]


def test_roles(alice: User, bob: User, conversation: Conversation) -> None:
    put(signed_in(alice), answers(conversation)[0], vote="up", shared=True)
    number = Feedback.objects.get().pk
    assert signed_in(alice).get(ADMIN).status_code in {302, 403}
    bob.role = Role.AUDITOR
    bob.save()
    assert signed_in(bob).get(ADMIN).status_code == 200
    assert signed_in(bob).get(f"{ADMIN}{number}/").status_code == 403


def test_ratings_of_few_users_are_hidden(
    alice: User, bob: User, conversation: Conversation, administrator: Client
) -> None:
    write("bob", ["x"])
    for user in (alice, bob):
        for message in Message.objects.filter(conversation__owner=user, role="assistant"):
            put(signed_in(user), message, vote="down", reason="wrong")
    one = Feedback.objects.filter(owner=bob).get()
    Feedback.objects.filter(pk=one.pk).update(model="rare:latest")
    try:
        save.save({"usage_min_group": 2})
        page = administrator.get(ADMIN).content.decode()
        assert page.count("fewer than 2 users") == 2
        save.save({"usage_min_group": 3})
        assert "Fewer than 3 users" in administrator.get(ADMIN).content.decode()
    finally:
        save.save({"usage_min_group": 1})
    assert "fewer than" not in administrator.get(ADMIN).content.decode()


def test_the_list_of_models_shows_and_filters_by_satisfaction(
    alice: User, conversation: Conversation, administrator: Client, model: str
) -> None:
    version = ModelName.objects.get(name=model).version
    for name in ("good:latest", "bad:latest"):
        ModelName.objects.create(name=name, version=version)
    for message, name, vote in zip(
        answers(conversation), ("good:latest", "bad:latest"), ("up", "down"), strict=True
    ):
        put(signed_in(alice), message, vote=vote)
        Feedback.objects.filter(message=message).update(model=name)
    listed = "/admin/models_admin/modelname/"
    page = administrator.get(listed).content.decode()
    assert "100%" in page
    for query, found in (
        ("good", {"good:latest"}),
        ("bad", {"bad:latest"}),
        ("mixed", set()),
        ("unrated", {model}),
    ):
        rows = administrator.get(f"{listed}?satisfaction={query}").context["cl"].result_list
        assert {row.name for row in rows} == found, query
    assert administrator.get(f"{listed}?satisfaction=planet").status_code == 200
    try:
        save.save({"usage_min_group": 2})
        assert "100%" not in administrator.get(listed).content.decode()
    finally:
        save.save({"usage_min_group": 1})
