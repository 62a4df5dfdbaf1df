"""The index follows what users write, and only they find it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.test import Client
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.answers.outcome import Outcome, save_end
from chatsite.chat import turns
from chatsite.chat.protocol import Edit, Send
from chatsite.conversations.models import Conversation, GenerationState, Message
from chatsite.errors import ModelMissing
from chatsite.search import find
from chatsite.search.models import Entry


def say(
    user: User, model: str, text: str, answer: str = "", conversation: Any = None
) -> turns.Turn:
    """Save a turn as the page and the host do."""
    parent = Conversation.objects.get(pk=conversation).head_id if conversation else None
    command = Send(
        f"r{Message.objects.count()}",
        text,
        model,
        conversation=str(conversation) if conversation else None,
        parent=str(parent) if parent else None,
    )
    turn = turns.make(user, command)
    async_to_sync(save_end)(
        str(turn.generation.pk),
        attempt=1,
        text=answer,
        tokens=1,
        outcome=Outcome(GenerationState.DONE),
    )
    return turn


def hits(user: User, query: str) -> list[str]:
    """Return highlighted snippets in the order of the results."""
    found = find.search(user, query)["results"]
    return [
        "".join(f"[{piece}]" if n % 2 else piece for n, piece in enumerate(hit["snippet"]))
        for result in found
        for hit in result["hits"]
    ]


def titles(user: User, query: str) -> list[str]:
    return ["".join(result["title"]) for result in find.search(user, query)["results"]]


def test_questions_answers_and_titles_are_found(alice: User, bob: User, model: str) -> None:
    say(alice, model, "How do indexes work?", "我们的数据库用 B-tree 索引。")
    say(bob, model, "数据库 of Bob")
    assert hits(alice, "数据库") == ["我们的[数据库]用 B-tree 索引。"]
    assert hits(alice, "索") == ["我们的数据库用 B-tree [索]引。"]
    assert hits(alice, "b-tree") == ["我们的数据库用 [B-tree] 索引。"]
    assert hits(alice, "ind") == ["How do [ind]exes work?"]
    assert titles(alice, "indexes") == ["How do indexes work?"]
    assert titles(alice, "Bob") == []
    assert titles(bob, "数据") == ["数据库 of Bob"]


@pytest.mark.parametrize(
    "query", ['"', "*", "' & |", ":*", "a:b", "(", "NOT", "\\", "%", "§m1", ""]
)
def test_any_query_is_harmless(alice: User, model: str, query: str) -> None:
    say(alice, model, "words")
    assert hits(alice, query) == []
    # The next query works: no failed transaction is left.
    assert hits(alice, "words") == ["[words]"]


def test_the_newest_come_first_and_titles_before_all(alice: User, model: str) -> None:
    first = say(alice, model, "apples and pears", "no fruit")
    say(alice, model, "more about apples")
    say(alice, model, "something else")
    say(alice, model, "again apples", conversation=first.conversation.pk)
    Conversation.objects.filter(title="something else").update(title="")
    assert titles(alice, "apples") == ["apples and pears", "more about apples"]
    # Shortened titles lack text that only the message has.
    say(alice, model, "x " * 60 + "apples")
    assert titles(alice, "apples")[:2] == ["apples and pears", "more about apples"]
    assert len(titles(alice, "apples")) == 3
    assert hits(alice, "apples")[:2] == ["again [apples]", "[apples] and pears"]


def test_changed_titles_and_deleted_texts(alice: User, model: str) -> None:
    turn = say(alice, model, "first words", "an answer")
    other = say(alice, model, "first again")
    client = Client()
    client.force_login(alice)
    address = f"/chat/conversations/{turn.conversation.pk}/"
    client.patch(address, '{"title": "Renamed"}', content_type="application/json")
    assert titles(alice, "renam") == ["Renamed"]
    assert sorted(titles(alice, "first")) == ["Renamed", "first again"]
    assert other.user_message
    edited = turns.make(alice, Edit("e", str(other.user_message.pk), "second wording", model))
    assert hits(alice, "second") == ["[second] wording"]
    turns.discard(edited)
    assert hits(alice, "second") == []
    client.delete(address)
    assert titles(alice, "first") == ["first again"]
    alice.delete()
    assert not Entry.objects.exists()


def test_a_refused_turn_leaves_nothing(alice: User) -> None:
    with pytest.raises(ModelMissing):
        turns.make(alice, Send("r", "for nobody", "missing:latest"))
    assert not Entry.objects.exists()


def test_results_continue_where_they_ended(alice: User, model: str) -> None:
    say(alice, model, "x", "common " * 3)
    conversations = Conversation.objects.bulk_create(
        Conversation(owner=alice, title=f"t{number}") for number in range(25)
    )
    from chatsite.search import index

    for conversation in conversations:
        message = Message.objects.create(conversation=conversation, role="user", content="common x")
        index.put(message, alice.pk)
    seen: list[str] = []
    before = None
    while True:
        page = find.search(alice, "common", before)
        seen += [result["conversation"].id for result in page["results"]]
        if page["before"] is None:
            break
        before = int(page["before"])
    assert len(seen) == len(set(seen)) == 26


def test_the_migration_indexes_existing_texts(alice: User, model: str) -> None:
    say(alice, model, "written before", "数据库")
    Entry.objects.all().delete()
    assert hits(alice, "数据库") == []
    migration = importlib.import_module("chatsite.search.migrations.0002_index_what_is_there")
    migration.index_all(apps, None)
    assert hits(alice, "数据库") == ["[数据库]"]
    assert titles(alice, "before") == ["written before"]


def test_the_address(alice: User, model: str, redis: Redis) -> None:
    say(alice, model, "over http")
    client = Client()
    assert client.get("/chat/search/", {"q": "http"}).status_code == 401
    client.force_login(alice)
    found = client.get("/chat/search/", {"q": "htt\x00p"}).json()
    assert [result["title"] for result in found["results"]] == [["over ", "http", ""]]
    for before in ("x", "9" * 19):
        assert client.get("/chat/search/", {"q": "x", "before": before}).status_code == 400
