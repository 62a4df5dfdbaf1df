"""The page and its JSON: for its owner, another user, and without a session."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.chat import turns
from chatsite.chat.protocol import Regenerate, Send
from chatsite.conversations import history
from chatsite.conversations.models import Conversation, Generation, GenerationState
from models_admin.models import ModelName, ModelVersion
from tests.support import conversations


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis, which views ask for loaded models."""


@pytest.fixture
def conversation(alice: User, model: str) -> Conversation:
    turn = turns.make(alice, Send("r", "Hello there", model))
    Generation.advance(turn.generation.pk, to=GenerationState.DONE, attempt=1)
    return turn.conversation


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def boot(html: bytes) -> dict[str, Any]:
    text = html.decode()
    start = text.index(">", text.index('id="boot"')) + 1
    data: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return data


def test_the_page_has_all_its_first_paint_needs(
    alice: User, model: str, conversation: Conversation
) -> None:
    response = signed_in(alice).get(f"/c/{conversation.pk}/")
    data = boot(response.content)
    assert data["default_model"] == model
    assert data["models"] == [{"name": model, "size": 1, "custom": False, "state": "unloaded"}]
    assert [c["id"] for c in data["conversations"]] == [str(conversation.pk)]
    roles = [message["role"] for message in data["conversation"]["messages"]]
    assert roles == ["user", "assistant"]


def test_no_inline_script_and_a_strict_policy(alice: User, model: str) -> None:
    response = signed_in(alice).get("/")
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"<style" not in response.content
    assert b" style=" not in response.content
    assert b" onclick=" not in response.content
    assert response["X-Frame-Options"] == "DENY"


def test_anonymous_visitors_are_redirected_to_sign_in() -> None:
    client = Client()
    assert client.get("/")["Location"].startswith("/accounts/login/")
    response = client.get("/chat/conversations/")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "not_signed_in"


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_a_stranger_finds_nothing(
    alice: User, bob: User, conversation: Conversation, method: str
) -> None:
    client = signed_in(bob)
    body = {"data": '{"title": "stolen"}', "content_type": "application/json"}
    for id in (conversation.pk, uuid.uuid4()):
        call = getattr(client, method)
        response = call(f"/chat/conversations/{id}/", **(body if method == "patch" else {}))
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"
    page = client.get(f"/c/{conversation.pk}/")
    assert page.status_code == 404
    assert b"Hello there" not in page.content
    assert boot(page.content)["error"]["code"] == "not_found"
    conversation.refresh_from_db()
    assert conversation.title == "Hello there"


def test_rename_and_delete(alice: User, conversation: Conversation) -> None:
    client = signed_in(alice)
    address = f"/chat/conversations/{conversation.pk}/"
    renamed = client.patch(address, '{"title": " New\\n name "}', content_type="application/json")
    assert renamed.json()["conversation"]["title"] == "New name"
    for bad in ('{"title": ""}', '{"title": " "}', "{", '{"owner": 1}', '{"head": "x"}'):
        response = client.patch(address, bad, content_type="application/json")
        assert response.status_code == 400, bad
    foreign = client.patch(
        address, f'{{"head": "{uuid.uuid4()}"}}', content_type="application/json"
    )
    assert foreign.status_code == 404
    assert client.delete(address).status_code == 204
    assert not Conversation.objects.of(alice).exists()


def test_changes_need_the_csrf_token(alice: User, conversation: Conversation) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.delete(f"/chat/conversations/{conversation.pk}/").status_code == 403
    assert Conversation.objects.exists()


def test_the_list_continues_where_the_previous_page_ended(alice: User) -> None:
    Conversation.objects.bulk_create(
        Conversation(owner=alice, title=str(number)) for number in range(120)
    )
    client, seen, before = signed_in(alice), [], ""
    while True:
        query = {"before": before} if before else {}
        page = client.get("/chat/conversations/", query).json()
        seen += [item["title"] for item in page["conversations"]]
        if not page["more"]:
            break
        last = page["conversations"][-1]
        before = f"{last['updated_at']},{last['id']}"
    assert len(seen) == 120
    assert len(set(seen)) == 120
    for bad in ("x", "x,y", f"2026-01-01,{uuid.uuid4()}x"):
        assert client.get("/chat/conversations/", {"before": bad}).status_code == 400


def test_a_long_conversation_comes_in_pages(
    alice: User, bob: User, django_assert_max_num_queries: Any
) -> None:
    id = conversations.write("alice", [f"Answer {number}" for number in range(500)])
    address = f"/chat/conversations/{id}/"
    client = signed_in(alice)
    client.get(address)  # loads what the process caches
    with django_assert_max_num_queries(8):
        data = client.get(address).json()
    assert len(data["tree"]) == 1000
    assert data["tree"][0][1:] == [-1, 0]
    assert data["tree"][999][1:] == [998, 1]
    seen = data["messages"]
    assert seen[-1]["content"] == "Answer 499"
    assert len(seen) == history.PAGE
    while (parent := seen[0]["parent"]) is not None:
        more = client.get(f"{address}messages/", {"until": parent}).json()["messages"]
        assert more[-1]["id"] == parent
        seen = more + seen
    assert [message["id"] for message in seen] == [node for node, _, _ in data["tree"]]
    assert client.get(f"{address}messages/", {"until": str(uuid.uuid4())}).status_code == 404
    assert client.get(f"{address}messages/", {"until": "x"}).status_code == 400
    other = signed_in(bob).get(f"{address}messages/", {"until": seen[0]["id"]})
    assert other.status_code == 404


def test_the_branch_shown_last_is_returned(alice: User, model: str) -> None:
    first = turns.make(alice, Send("1", "one", model))
    Generation.objects.update(state=GenerationState.DONE)
    again = turns.make(alice, Regenerate("2", str(first.answer.pk), model))
    Conversation.objects.update(head=first.answer)
    address = f"/chat/conversations/{first.conversation.pk}/"
    data = signed_in(alice).get(address).json()
    question = str(first.user_message.pk) if first.user_message else ""
    assert [m["id"] for m in data["messages"]] == [question, str(first.answer.pk)]
    assert data["tree"] == [
        [question, -1, 0],
        [str(first.answer.pk), 0, 5],
        [str(again.answer.pk), 0, 5],
    ]
    Conversation.objects.update(head=None)
    newest = signed_in(alice).get(address).json()["messages"]
    assert newest[-1]["id"] == str(again.answer.pk)


def test_page_23_details_of_models_are_loaded_on_demand(
    alice: User, model: str, starter_model: Path, settings: Any, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    version = ModelVersion.objects.create(digest="b" * 64, size=starter_model.stat().st_size)
    version.path.parent.mkdir(exist_ok=True)
    version.path.symlink_to(starter_model)
    ModelName.objects.create(name="smollm2:135m", version=version)
    details = signed_in(alice).get("/chat/models/details/").json()["details"]
    assert set(details) == {model, "smollm2:135m"}
    smol = details["smollm2:135m"]
    assert smol["description"].startswith("Small enough for any machine")
    assert smol["parameters"] == "134.5M"
    assert smol["context"] == 4096
    assert smol["reasoning"] is False
    # A missing file has no facts, but does not hide the other models.
    assert details[model]["context"] == 0
    assert Client().get("/chat/models/details/").status_code == 401
