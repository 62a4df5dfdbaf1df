"""Conversations from other programs' exports, and what is refused."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from chatsite.engine.prompting import output
from chatsite.exchange import tree
from chatsite.exchange.readers import read
from chatsite.exchange.tree import MESSAGES_MAX, Node, Unreadable, arranged, moment


def chatgpt_node(
    id: str, parent: str | None, role: str = "", *parts: Any, kind: str = "text", **metadata: Any
) -> dict[str, Any]:
    message = {
        "id": id,
        "author": {"role": role},
        "create_time": 1700000000.5,
        "content": {"content_type": kind, "parts": list(parts), "text": "".join(map(str, parts))},
        "metadata": metadata,
    }
    return {"id": id, "parent": parent, "children": [], "message": message if role else None}


def chatgpt(*nodes: dict[str, Any], head: str) -> dict[str, Any]:
    return {
        "title": "  Trees \n",
        "create_time": 1700000000.0,
        "update_time": 1700000100.0,
        "mapping": {node["id"]: node for node in nodes},
        "current_node": head,
        "conversation_id": "abc",
    }


def test_chatgpt_with_branches_tools_and_pictures() -> None:
    chat = read(
        chatgpt(
            chatgpt_node("root", None),
            chatgpt_node(
                "sys", "root", "system", "hidden", is_visually_hidden_from_conversation=True
            ),
            chatgpt_node("q", "sys", "user", "Why?", {"content_type": "image_asset_pointer"}),
            chatgpt_node("a1", "q", "assistant", "Because.", model_slug="gpt-4o"),
            chatgpt_node("a2", "q", "assistant", "Let me look."),
            chatgpt_node("call", "a2", "assistant", "print(1)", kind="code"),
            chatgpt_node("tool", "call", "tool", "1", kind="execution_output"),
            chatgpt_node("a3", "tool", "assistant", "It is one.\x00\ud800"),
            chatgpt_node("q2", "a3", "user", "Thanks"),
            head="q2",
        )
    )
    assert (chat.source, chat.key, chat.title, chat.head) == ("chatgpt", "abc", "Trees", "q2")
    assert chat.created.year == 2023
    assert [(node.key, node.parent, node.role) for node in chat.nodes] == [
        ("q", None, "user"),
        ("a1", "q", "assistant"),
        ("a2", "q", "assistant"),
        ("q2", "a2", "user"),
    ]
    assert chat.nodes[1].model == "gpt-4o"
    assert chat.nodes[2].content == "Let me look.\n\n```\nprint(1)\n```\n\nIt is one.?"
    assert chat.left_out == 2


def test_t81_a_message_to_a_tool_is_no_answer() -> None:
    search = chatgpt_node("search", "q", "assistant", '{"search_query":[{"q":"x"}]}', kind="code")
    search["message"]["recipient"] = "web.run"
    canvas = chatgpt_node("canvas", "search", "assistant", '{"name":"doc"}')
    canvas["message"]["recipient"] = "canmore.create_textdoc"
    answer = chatgpt_node("a", "canvas", "assistant", "It rains.")
    answer["message"]["recipient"] = "all"
    chat = read(chatgpt(chatgpt_node("q", None, "user", "Rain?"), search, canvas, answer, head="a"))
    assert [node.content for node in chat.nodes] == ["Rain?", "It rains."]
    assert chat.left_out == 2


MARK = "\ue200cite\ue202turn0search0\ue201"


@pytest.mark.parametrize(
    ("content", "metadata", "shown"),
    [
        (f"It rains{MARK}.", {}, "It rains."),
        (
            f"It rains{MARK}.",
            {
                "content_references": [
                    {
                        "matched_text": MARK,
                        "items": [{"url": "https://w.example/", "title": "W [1]"}],
                    }
                ]
            },
            "It rains ([W \\[1\\]](<https://w.example/>)).",
        ),
        (
            f"It rains{MARK}.",
            {"content_references": [{"matched_text": MARK, "items": [{"url": "javascript:x"}]}]},
            "It rains.",
        ),
        ('In \ue200entity\ue202["city","Oslo"]\ue201.', {}, "In Oslo."),
        (
            "See \ue200url\ue202the page\ue202https://w.example/\ue201.",
            {},
            "See [the page](<https://w.example/>).",
        ),
        ("It rains【11†source】【4:1†a.pdf】.", {}, "It rains."),
        (
            "Rain【11†source】.",
            {
                "citations": [
                    {"start_ix": 4, "end_ix": 15, "metadata": {"url": "https://w.example/"}}
                ]
            },
            "Rain ([https://w.example/](<https://w.example/>)).",
        ),
        ("\ue200 alone", {"content_references": "x", "citations": [1]}, "\ue200 alone"),
    ],
)
def test_t82_citation_marks_become_links_or_go(
    content: str, metadata: dict[str, Any], shown: str
) -> None:
    node = chatgpt_node("a", None, "assistant", content, **metadata)
    assert read(chatgpt(node, head="a")).nodes[0].content == shown


def test_t83_the_models_name_of_the_conversation_is_kept() -> None:
    raw = chatgpt(
        chatgpt_node("q", None, "user", "?"),
        chatgpt_node("a", "q", "assistant", "!"),
        chatgpt_node("q2", "a", "user", "?"),
        chatgpt_node("b", "q2", "assistant", "!", model_slug="o3"),
        head="b",
    )
    chat = read(raw | {"default_model_slug": "gpt-5"})
    assert [node.model for node in chat.nodes] == ["", "gpt-5", "", "o3"]


def test_t84_attached_files_are_counted_once() -> None:
    files = [{"name": "a.pdf"}, {"name": "b.png"}]
    picture = {"content_type": "image_asset_pointer"}
    chat = read(chatgpt(chatgpt_node("q", None, "user", "x", picture, attachments=files), head="q"))
    assert chat.left_out == 2


def test_thoughts_of_chatgpt_are_the_reasoning_of_its_answer() -> None:
    thoughts = chatgpt_node("t", "q", "assistant", kind="thoughts")
    thoughts["message"]["content"]["thoughts"] = [
        {"summary": "Plan", "content": "Look </think> up"}
    ]
    chat = read(
        chatgpt(
            chatgpt_node("q", None, "user", "?"),
            thoughts,
            chatgpt_node("a", "t", "assistant", "Four."),
            head="a",
        )
    )
    answer = chat.nodes[1]
    assert output.split(answer.content, answer.syntax, tools=False) == (
        "Plan\n\nLook  up",
        "Four.",
        (),
    )
    assert (chat.head, chat.left_out) == (answer.key, 0)


@pytest.mark.parametrize("quoted", ["> Two and two\n> is four", "&gt; Two and two\n&gt; is four"])
def test_t85_reasoning_of_open_webui_is_reasoning_here(quoted: str) -> None:
    content = (
        f'<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds'
        f"</summary>\n{quoted}\n</details>\nFour. <details><summary>Mine</summary>x</details>"
        '<details type="tool_calls" done="true" name="search" arguments="&quot;{}&quot;">\n'
        "<summary>Tool Executed</summary>\n</details>\n"
    )
    messages = {"1": {"parentId": None, "role": "assistant", "content": content}}
    history = {"messages": messages, "currentId": "1"}
    chat = read({"chat": {"history": history, "system": "Be kind."}})
    answer = chat.nodes[0]
    assert output.split(answer.content, answer.syntax, tools=False)[:2] == (
        "Two and two\nis four",
        "Four. <details><summary>Mine</summary>x</details>",
    )
    assert chat.left_out == 2  # the call, and the system prompt


def test_details_without_an_end_stay_text() -> None:
    content = '<details type="reasoning">' * 2000
    messages = {"1": {"parentId": None, "role": "assistant", "content": content}}
    chat = read({"chat": {"history": {"messages": messages, "currentId": "1"}}})
    assert chat.nodes[0].content == content


def test_answers_that_branch_are_not_joined() -> None:
    nodes, head = arranged(
        [
            Node("q", None, "user", "q"),
            Node("a", "q", "assistant", "a"),
            Node("t", "a", None),
            Node("b", "t", "assistant", "b"),
            Node("other", "a", "user", "other"),
        ],
        "t",
    )
    assert [(node.key, node.parent) for node in nodes] == [
        ("q", None),
        ("a", "q"),
        ("b", "a"),
        ("other", "a"),
    ]
    assert head == "a"


def test_open_webui() -> None:
    messages = {
        "1": {
            "id": "1",
            "parentId": None,
            "role": "user",
            "content": "Hi",
            "timestamp": 1700000000,
        },
        "2": {"parentId": "1", "role": "assistant", "content": "Hello", "model": "llama3:8b"},
        "3": {
            "parentId": "1",
            "role": "assistant",
            "content": [{"type": "text", "text": "Hey"}, {"type": "image_url"}],
            "files": [{}],
        },
    }
    chat = read(
        {
            "id": "x1",
            "title": "Greeting",
            "updated_at": 1700000500,
            "created_at": 1700000000,
            "archived": True,
            "chat": {"title": "Greeting", "history": {"messages": messages, "currentId": "3"}},
        }
    )
    assert (chat.source, chat.key, chat.head, chat.archived) == ("openwebui", "x1", "3", True)
    assert [node.content for node in chat.nodes] == ["Hi", "Hello", "Hey"]
    assert chat.left_out == 2


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "x",
        {},
        {"mapping": []},
        {"mapping": {}},
        {"mapping": {"a": None, "b": {"parent": 1, "message": {"author": "x", "content": 3}}}},
        {"mapping": {"a": {"parent": "b", "message": None}, "b": {"parent": "a"}}},
        {"chat": {"history": {"messages": {"1": {"role": ["user"], "content": {}}}}}},
        {"chat": {"history": None}},
        {"messages": [1, {"id": "a", "role": "user", "content": None}], "head": 3},
        {"messages": [{"id": "a", "role": "user", "content": "x" * 1_000_001}], "head": "a"},
        {"messages": [{"id": str(n)} for n in range(MESSAGES_MAX + 1)], "head": None},
    ],
)
def test_an_export_without_conversations_is_refused(raw: Any) -> None:
    with pytest.raises(Unreadable):
        read(raw)


def test_a_deep_tree_is_read() -> None:
    nodes = [Node(str(n), str(n - 1) if n else None, "user", "x") for n in range(MESSAGES_MAX)]
    assert len(arranged(nodes, "0")[0]) == MESSAGES_MAX


@pytest.mark.parametrize(
    "value", [None, True, "x", -1, 0, 1e300, float("nan"), "9999-01-01", 10**400, {}]
)
def test_moments_that_are_nonsense(value: Any) -> None:
    assert moment(value) is None


def test_moments_of_all_kinds() -> None:
    for value in (1700000000, 1700000000000, 1700000000000000000, "2023-11-14T22:13:20Z"):
        found = moment(value)
        assert found
        assert found.isoformat() == "2023-11-14T22:13:20+00:00"


def test_many_answers_in_a_row_do_not_become_one_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tree, "CHARACTERS_MAX", 100)
    monkeypatch.setattr(tree, "check_length", check := Mock(wraps=tree.check_length))
    nodes = [
        Node(str(number), str(number - 1) if number else None, "assistant", "x" * 50)
        for number in range(1000)
    ]
    with pytest.raises(Unreadable):
        arranged(nodes, None)
    assert check.call_count == 1
