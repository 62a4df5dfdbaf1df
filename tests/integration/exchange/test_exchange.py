"""Export and import of conversations: complete and idempotent."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.test import Client
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.conversations import prompt
from chatsite.conversations.attachments.models import Attachment
from chatsite.conversations.models import Conversation, Generation, Message
from chatsite.exchange import taking, views
from chatsite.search import find
from tests.unit.exchange.test_readers import chatgpt, chatgpt_node


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis, for hints."""


def trees(count: int = 1) -> list[dict[str, Any]]:
    return [
        {
            **chatgpt(
                chatgpt_node("q", None, "user", "关于数据库的问题"),
                chatgpt_node("a1", "q", "assistant", "First answer", model_slug="gpt-4o"),
                chatgpt_node("a2", "q", "assistant", "Second **answer**"),
                head="a2",
            ),
            "conversation_id": f"c{number}",
            "title": f"Tree {number}",
        }
        for number in range(count)
    ]


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_import_is_whole_found_and_idempotent(alice: User, bob: User) -> None:
    client = signed_in(alice)
    body = json.dumps([*trees(2), {"title": "Odd\ud800"}, 5])
    report = client.post("/chat/import/", body, content_type="application/json").json()
    assert (report["taken"], report["known"]) == (2, 0)
    assert [one["title"] for one in report["refused"]] == ["Odd?", ""]
    assert all(one["reason"] for one in report["refused"])
    again = client.post("/chat/import/", body, content_type="application/json").json()
    assert (again["taken"], again["known"]) == (0, 2)
    assert Message.objects.of(alice).count() == 6
    assert {row.model for row in Generation.objects.of(alice)} == {"gpt-4o", ""}
    found = find.search(alice, "数据库")["results"]
    assert len(found) == 2
    conversation = Conversation.objects.get(pk=found[0]["conversation"].id)
    contents = [message.content for message in conversation.messages.order_by("created_at")]
    assert contents == ["关于数据库的问题", "First answer", "Second **answer**"]
    assert conversation.head is not None
    assert conversation.head.content == "Second **answer**"
    assert client.get(f"/c/{conversation.pk}/").status_code == 200
    # Another user's import is independent.
    assert taking.take(bob, trees())["taken"] == 1


def test_a_deleted_conversation_can_be_imported_again(alice: User) -> None:
    taking.take(alice, trees())
    conversation = Conversation.objects.of(alice).get()
    signed_in(alice).delete(f"/chat/conversations/{conversation.pk}/")
    assert taking.take(alice, trees())["taken"] == 1
    assert Conversation.objects.of(alice).get().pk != conversation.pk
    # The deleted copy can still be restored until it is purged.
    assert Conversation.objects.deleted_by(alice).get().pk == conversation.pk


def test_one_as_markdown_and_json(alice: User, bob: User) -> None:
    taking.take(alice, trees())
    conversation = Conversation.objects.of(alice).get()
    address = f"/chat/export/{conversation.pk}/"
    markdown = signed_in(alice).get(address)
    assert markdown["Content-Disposition"] == 'attachment; filename="Tree 0.md"'
    assert markdown.content.decode() == (
        "# Tree 0\n\n## You\n\n关于数据库的问题\n\n## Answer\n\nSecond **answer**\n"
    )
    whole = signed_in(alice).get(address, {"form": "json"}).json()
    assert [one["model"] for one in whole["messages"]] == [None, "gpt-4o", ""]
    assert taking.take(bob, [whole])["taken"] == 1
    assert Message.objects.of(bob).count() == 3
    assert taking.take(alice, [whole])["known"] == 1
    assert signed_in(alice).get(address, {"form": "docx"}).status_code == 400
    assert signed_in(bob).get(address).status_code == 404
    assert Client().get(address).status_code == 401


def test_documents_and_reasoning_come_back(alice: User, bob: User) -> None:
    report = taking.take(
        alice,
        [
            {
                "id": "x",
                "head": "a",
                "documents": [
                    {
                        "id": "d",
                        "name": "../no\u202etes.md",
                        "text": "```\nfenced\n```",
                        "pages": 2,
                    },
                    {
                        "id": "long",
                        "name": "long",
                        "text": "x" * (settings.ENV.attachment_chars + 1),
                    },
                    {"id": "empty"},
                    7,
                ],
                "messages": [
                    {"id": "q", "role": "user", "content": "", "attachments": ["d", "long", "d"]},
                    {
                        "id": "a",
                        "parent": "q",
                        "role": "assistant",
                        "content": "<think>Hm</think>\n\nFine.",
                        "syntax": {"think_open": "<think>", "think_close": "</think>"},
                    },
                    {"id": "b", "parent": "q", "role": "assistant", "content": "1", "syntax": 5},
                    {"id": "e", "role": "user", "content": "Edited", "attachments": ["d", "gone"]},
                ],
            }
        ],
    )
    assert (report["taken"], report["left_out"]) == (1, 2)
    conversation = Conversation.objects.of(alice).get()
    address = f"/chat/export/{conversation.pk}/"
    assert signed_in(alice).get(address).content.decode() == (
        "# Untitled\n\n## You\n\n### notes.md\n\n````\n```\nfenced\n```\n````\n\n"
        "## Answer\n\nFine.\n"
    )
    whole = signed_in(alice).get(address, {"form": "json"}).json()
    assert taking.take(bob, [whole])["left_out"] == 0
    for user in (alice, bob):
        document = Attachment.objects.of(user).get()
        assert (document.name, document.pages, document.ready) == ("notes.md", 2, True)
        assert document.text == "```\nfenced\n```"
        assert document.messages.count() == 2
        leaf = Conversation.objects.of(user).get().head
        assert leaf is not None
        said = prompt.build(leaf)
        assert "fenced" in said[0].content
        assert said[1].content == "Fine."


def test_all_as_one_file(alice: User, bob: User) -> None:
    taking.take(alice, trees(3))
    taking.take(bob, trees(1))
    client = signed_in(alice)
    response: Any = client.get("/chat/export/")
    # Each export takes disk and CPU time, so a user may have one at a time.
    refused = client.get("/chat/export/")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "export_busy")

    async def read() -> bytes:
        return b"".join([chunk async for chunk in response.streaming_content])

    content = async_to_sync(read)()
    assert int(response["Content-Length"]) == len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        whole = json.loads(archive.read("conversations.json"))
    assert len([name for name in names if name.endswith(".md")]) == 3
    assert len(whole["conversations"]) == 3
    report = taking.take(alice, whole["conversations"])
    assert (report["taken"], report["known"]) == (0, 3)
    response.close()
    unread = client.get("/chat/export/")
    assert unread.status_code == 200
    unread.close()
    assert not views.open_exports


@pytest.mark.parametrize("body", ["", "{", "{}", "[" * 100_000, json.dumps([0] * 201)])
def test_bodies_that_are_not_lists(alice: User, body: str) -> None:
    response = signed_in(alice).post("/chat/import/", body, content_type="application/json")
    assert response.status_code == 400


def test_too_large_a_body_is_not_read(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatsite.exchange.views.BODY_MAX", 10)
    response = signed_in(alice).post("/chat/import/", "[" * 11, content_type="application/json")
    assert response.status_code == 413
