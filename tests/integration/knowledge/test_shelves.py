"""Collections in the forms of assistants, and the page of administrators."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from chatsite.accounts.models import User
from chatsite.conversations.assistants.models import Assistant
from chatsite.knowledge import figures
from chatsite.knowledge.assistant_form import KnowledgeAssistantForm
from chatsite.knowledge.models import (
    AssistantCollection,
    Collection,
    Document,
    DocumentState,
    Share,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password="x")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    from models_admin import catalogue

    monkeypatch.setattr(catalogue, "offered", lambda user, writing=False: [{"name": "m"}])
    monkeypatch.setattr(catalogue, "default_name", lambda user: "m")


def values(*collections: Collection) -> dict[str, Any]:
    return {
        "name": "Helper",
        "model": "m",
        "collections": [str(one.pk) for one in collections],
    }


@pytest.mark.usefixtures("offered")
def test_an_assistant_takes_only_collections_that_its_owner_may_read(ann: User) -> None:
    own = Collection.objects.create(owner=ann, name="Own")
    bob = User.objects.create_user("bob", password="x")
    secret = Collection.objects.create(owner=bob, name="Secret")
    refused = KnowledgeAssistantForm(values(secret), instance=Assistant(owner=ann))
    assert "collections" in refused.errors
    form = KnowledgeAssistantForm(values(own), instance=Assistant(owner=ann))
    assert form.is_valid(), form.errors
    saved = form.save()
    assert [row.collection for row in AssistantCollection.objects.filter(assistant=saved)] == [own]
    form = KnowledgeAssistantForm(values(), instance=saved)
    assert form.is_valid()
    form.save()
    assert not AssistantCollection.objects.filter(assistant=saved).exists()


@pytest.mark.usefixtures("offered")
def test_shared_assistants_offer_collections_of_groups(ann: User) -> None:
    Collection.objects.create(owner=ann, name="Own")
    group = Group.objects.create(name="Plant")
    shelf = Collection.objects.create(group=group, name="Manuals")
    form = KnowledgeAssistantForm(instance=Assistant())
    assert list(form.fields["collections"].queryset) == [shelf]  # type: ignore[attr-defined]


def test_administrators_see_figures_and_queue_failures_again(ann: User, client: Client) -> None:
    root = User.objects.create_superuser("root", password="x")
    shelf = Collection.objects.create(owner=ann, name="Manuals")
    Share.objects.create(collection=shelf, user=root, may_write=True)
    Document.objects.create(
        collection=shelf,
        path="a.pdf",
        size=2_000_000,
        state=DocumentState.FAILED,
        error={"code": "unreadable", "message": "The file is damaged."},
    )
    Document.objects.create(collection=shelf, path="b.md", size=10, state="ready", uses=3, pages=2)
    assert figures.totals() == figures.Totals(1, 2, 2_000_010, 2, 0, 1)
    client.force_login(root)
    text = client.get("/admin/knowledge/").content.decode()
    for shown in ("Manuals", "ann", "root (edit)", "The file is damaged.", "b.md"):
        assert shown in text
    answer = client.post("/admin/knowledge/retry/")
    assert answer.status_code == 302
    assert Document.objects.get(path="a.pdf").state == DocumentState.QUEUED
    client.force_login(ann)
    assert client.get("/admin/knowledge/").status_code in {302, 403}
