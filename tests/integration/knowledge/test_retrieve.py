"""Passages by words and vectors, on the database of the run."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import connection

from chatsite.accounts.models import User
from chatsite.answers import embedding
from chatsite.documents.chunks import split
from chatsite.errors import EngineFailed
from chatsite.knowledge import embedding_model, index
from chatsite.knowledge.embedding_model import EmbeddingModel, Reranker
from chatsite.knowledge.index import words
from chatsite.knowledge.index.words import Ids
from chatsite.knowledge.models import (
    Collection,
    Document,
    DocumentState,
    EmbeddingIndex,
    Passage,
    PassageTerms,
    PassageVectors,
    Share,
)
from chatsite.knowledge.retrieve import Result, Scope, retrieve

pytestmark = [pytest.mark.django_db, pytest.mark.database]

MODEL = EmbeddingModel("vectors:1", "d1")


def user(name: str) -> User:
    return User.objects.create_user(name)


def document(collection: Collection, path: str, text: str) -> Document:
    made = Document.objects.create(
        collection=collection,
        path=path,
        size=len(text),
        sha256="0" * 64,
        state=DocumentState.READY,
        characters=len(text),
    )
    index.put(made, split(text))
    return made


def ask(who: User, question: str, *collections: Collection, **options: Any) -> Result:
    scope = Scope(tuple(one.pk for one in collections))
    return async_to_sync(retrieve)(None, who, question, scope, **options)  # type: ignore[arg-type]


def paths(result: Result) -> list[str]:
    return [one.passage.document.path for one in result.found if one.passage.document]


@pytest.fixture
def ann() -> User:
    return user("ann")


@pytest.fixture
def rules(ann: User) -> Collection:
    collection = Collection.objects.create(owner=ann, name="Rules")
    document(collection, "travel/trains.md", "# Trains\n\nTickets of first class need approval.")
    document(collection, "travel/hotels.md", "# Hotels\n\nA night costs at most 120 euros.")
    document(collection, "hr/vacation.md", "# Vacation\n\nEveryone has 30 days of vacation.")
    document(collection, "hr/年假.md", "# 年假\n\n员工每年有三十天带薪假期。")
    return collection


def test_passages_are_ranked_by_their_words(ann: User, rules: Collection) -> None:
    found = ask(ann, "How many days of vacation does everyone have?", rules)
    assert paths(found)[0] == "hr/vacation.md"
    assert (found.mode, found.missing, found.searched_documents) == ("words", "no_model", 4)
    assert found.found[0].score_words is not None


def test_chinese_questions_find_chinese_passages(ann: User, rules: Collection) -> None:
    assert paths(ask(ann, "员工有多少天带薪假期？", rules))[0] == "hr/年假.md"


def test_headings_and_names_of_files_are_searched(ann: User, rules: Collection) -> None:
    assert paths(ask(ann, "trains", rules))[0] == "travel/trains.md"


def test_an_unrelated_question_matches_nothing(ann: User, rules: Collection) -> None:
    found = ask(ann, "Which volcano erupted in Iceland of late?", rules)
    assert (found.found, found.searched_documents) == ((), 4)


def test_a_follow_up_is_searched_with_its_subject(ann: User, rules: Collection) -> None:
    history = ["What does a hotel cost per night?", "At most 120 euros."]
    assert "travel/trains.md" in paths(ask(ann, "And in first class?", rules, history=history))
    assert "travel/hotels.md" in paths(ask(ann, "Why is that?", rules, history=history))


def test_only_what_the_user_may_read_is_searched(ann: User, rules: Collection) -> None:
    bob, staff = user("bob"), Group.objects.create(name="staff")
    question = "How many days of vacation does everyone have?"
    assert ask(bob, question, rules) == Result((), 0, "words", "")
    share = Share.objects.create(collection=rules, group=staff)
    assert ask(bob, question, rules).found == ()
    bob.groups.add(staff)
    assert paths(ask(bob, question, rules)) == ["hr/vacation.md"]
    share.delete()
    assert ask(bob, question, rules).found == ()


def test_a_deleted_document_leaves_nothing(ann: User, rules: Collection) -> None:
    secret = document(rules, "secret.md", "The launch code is xylophone.")
    assert paths(ask(ann, "xylophone", rules)) == ["secret.md"]
    matrix = np.eye(1, 3, dtype=np.float32)
    built = EmbeddingIndex.objects.create(model="m", digest="d", dimensions=3)
    assert index.put_vectors(built, matrix, document=secret.pk)
    secret.delete()
    assert ask(ann, "xylophone", rules).found == ()
    assert not Passage.objects.filter(text__contains="xylophone").exists()
    assert not PassageVectors.objects.exists()
    assert words.frequencies(["xylophone"])[1] == {}


def test_new_content_replaces_the_passages(ann: User, rules: Collection) -> None:
    changed = Document.objects.get(path="hr/vacation.md")
    index.put(changed, split("Everyone has 25 days of leave."))
    assert ask(ann, "vacation", rules).found[:1] != ()  # by its name
    [passage] = Passage.objects.filter(document=changed)
    assert passage.text == "Everyone has 25 days of leave."
    assert PassageTerms.objects.filter(passage__document=changed).count() == 1


def test_frequent_words_weigh_less_than_rare_ones(ann: User) -> None:
    collection = Collection.objects.create(owner=ann, name="c")
    for number in range(20):
        document(collection, f"{number}.md", "The report of the committee on the budget. " * 3)
    document(collection, "rare.md", "The report of the auditor.")
    assert paths(ask(ann, "the report of the auditor", collection))[0] == "rare.md"


def test_both_databases_rank_alike(ann: User, rules: Collection) -> None:
    ids = Ids((rules.pk,))
    question = "first class hotels for 30 days of vacation"
    order = [
        Passage.objects.get(pk=hit.passage).document.path  # type: ignore[union-attr]
        for hit in words.find(question, ids, 10)
    ]
    assert order == ["hr/vacation.md", "travel/trains.md", "travel/hotels.md"]
    assert connection.vendor in {"sqlite", "postgresql"}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray[Any, Any]]:
    """Install an embedding model whose vectors of questions the test sets."""
    vectors: dict[str, np.ndarray[Any, Any]] = {}

    async def embed(_runtime: Any, _user: User, _name: str, texts: list[str], **_: Any) -> Any:
        if texts[0] not in vectors:
            raise EngineFailed
        return np.asarray([vectors[texts[0]]], dtype=np.float32)

    monkeypatch.setattr(embedding, "embed", embed)
    monkeypatch.setattr(embedding_model, "current", lambda: MODEL)
    return vectors


def vectors_of(collection: Collection, rows: dict[str, list[float]]) -> None:
    active = EmbeddingIndex.State.ACTIVE
    built, _ = EmbeddingIndex.objects.get_or_create(
        digest="d1", defaults={"model": "vectors:1", "dimensions": 2, "state": active}
    )
    for path, row in rows.items():
        one = Document.objects.get(collection=collection, path=path)
        assert index.put_vectors(built, np.asarray([row], dtype=np.float32), document=one.pk)


ALL = {
    "travel/trains.md": [1.0, 0.0],
    "travel/hotels.md": [0.8, 0.6],
    "hr/vacation.md": [0.0, 1.0],
    "hr/年假.md": [-1.0, 0.0],
}


def test_vectors_find_what_words_do_not(
    ann: User, rules: Collection, model: dict[str, Any]
) -> None:
    vectors_of(rules, ALL)
    model["railway"] = [1.0, 0.0]
    found = ask(ann, "railway", rules)
    assert paths(found) == ["travel/trains.md", "travel/hotels.md"]
    assert (found.mode, found.missing) == ("fused", "")
    assert found.found[0].score_vectors == pytest.approx(1.0)


def test_a_model_of_another_language_is_not_asked(
    ann: User, rules: Collection, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors_of(rules, ALL)
    english = EmbeddingModel("all-minilm:22m", "d1")
    monkeypatch.setattr(embedding_model, "current", lambda: english)
    model["员工有多少天带薪假期？"] = [1.0, 0.0]
    found = ask(ann, "员工有多少天带薪假期？", rules)
    assert (found.mode, found.missing, paths(found)) == ("words", "language", ["hr/年假.md"])
    model["railway"] = [1.0, 0.0]
    assert ask(ann, "railway", rules).mode == "fused"
    assert EmbeddingModel("nomic-embed-text-v2-moe:latest", "d").knows("员工有多少天假期")
    assert not EmbeddingModel("nomic-embed-text:latest", "d").knows("员工 leave 有多少天假期")


def test_words_of_asking_are_not_searched(ann: User, rules: Collection) -> None:
    document(rules, "faq.md", "# 怎样提问\n\n怎样可以提出问题？请问什么问题都可以。")
    assert paths(ask(ann, "怎样可以得到假期？", rules)) == ["hr/年假.md"]
    assert paths(ask(ann, "怎样提问？", rules))[0] == "faq.md"


def test_words_count_by_how_well_they_match(
    ann: User, rules: Collection, model: dict[str, Any]
) -> None:
    """All words of the first question are in one passage, few of the second."""
    vectors_of(rules, ALL)
    model["first class approval"] = [0.0, 1.0]
    assert "travel/trains.md" in paths(ask(ann, "first class approval", rules))[:2]
    model["approval of leave lasting several weeks abroad"] = [0.0, 1.0]
    assert paths(ask(ann, "approval of leave lasting several weeks abroad", rules))[0] == (
        "hr/vacation.md"
    )


def test_what_both_find_is_first(ann: User, rules: Collection, model: dict[str, Any]) -> None:
    vectors_of(rules, ALL)
    model["vacation euros"] = [0.8, 0.6]
    assert paths(ask(ann, "vacation euros", rules))[0] == "travel/hotels.md"


def test_a_missing_engine_or_index_is_said(
    ann: User, rules: Collection, model: dict[str, Any]
) -> None:
    assert ask(ann, "vacation", rules).missing == "index_building"
    vectors_of(rules, {"hr/vacation.md": [0.0, 1.0]})
    found = ask(ann, "vacation", rules)
    assert (found.mode, found.missing, paths(found)) == (
        "words",
        "engine_unavailable",
        ["hr/vacation.md"],
    )
    model["vacation"] = [0.0, 1.0]
    found = ask(ann, "vacation", rules)
    assert (found.mode, found.missing) == ("fused", "index_building")


def test_a_reranker_decides_the_order(
    ann: User, rules: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"# Vacation": 0.2, "# Trains": 0.9, "# Hotels": 0.001}
    asked: list[str] = []

    async def rerank(
        _runtime: Any, _user: User, name: str, query: str, texts: list[str], **_: Any
    ) -> list[float]:
        asked.append(f"{name} {query}")
        return [scores[text.splitlines()[0]] for text in texts]

    monkeypatch.setattr(embedding_model, "reranker", lambda: Reranker("judge:1", "d2"))
    monkeypatch.setattr(embedding, "rerank", rerank)
    found = ask(ann, "first class hotels vacation", rules)
    assert (found.mode, paths(found)) == ("reranked", ["travel/trains.md", "hr/vacation.md"])
    assert asked == ["judge:1 first class hotels vacation"]


def test_vectors_of_other_passages_are_refused(ann: User, rules: Collection) -> None:
    built = EmbeddingIndex.objects.create(model="m", digest="d", dimensions=2)
    one = Document.objects.get(path="hr/vacation.md")
    assert not index.put_vectors(built, np.zeros((2, 2), dtype=np.float32), document=one.pk)
    with pytest.raises(ValueError, match="2 dimensions"):
        index.put_vectors(built, np.zeros((1, 3), dtype=np.float32), document=one.pk)
    waiting, _ = index.without_vectors(built)
    assert waiting.count() == 4
    assert index.put_vectors(built, np.eye(1, 2, dtype=np.float32), document=one.pk)
    assert waiting.all().count() == 3


def test_documents_of_other_collections_are_not_in_scope(ann: User, rules: Collection) -> None:
    other = Collection.objects.create(owner=ann, name="Other")
    document(other, "other.md", "Vacation for all.")
    assert paths(ask(ann, "vacation", other)) == ["other.md"]
    one = Document.objects.get(path="hr/vacation.md")
    scope = Scope((), (), (one.pk, uuid.uuid4()))
    found = async_to_sync(retrieve)(None, ann, "vacation", scope)  # type: ignore[arg-type]
    assert paths(found) == ["hr/vacation.md"]
