"""The formats of exported conversations: ChatGPT's, Open WebUI's, and this product's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeGuard, get_args

import msgspec
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from chatsite.conversations.attachments import storage
from chatsite.documents.formats import Kind
from chatsite.engine.contract.messages import PLAIN, OutputSyntax
from chatsite.engine.prompting.output import REASONING
from chatsite.exchange import marks
from chatsite.exchange.tree import (
    Chat,
    Document,
    Node,
    Role,
    Unreadable,
    arranged,
    key_of,
    moment,
    text,
    title,
)

_KINDS = get_args(Kind)


def read(raw: Any) -> Chat:
    """Read a conversation of any known format. Raises `Unreadable`."""
    if not isinstance(raw, dict):
        raise Unreadable(_("It is not a conversation."))
    if isinstance(raw.get("mapping"), dict):
        chat = _chatgpt(raw)
    elif isinstance(raw.get("chat"), dict):
        chat = _open_webui(raw)
    elif isinstance(raw.get("messages"), list) and "head" in raw:
        chat = _own(raw)
    else:
        raise Unreadable(_("Its format is not supported."))
    chat.nodes, chat.head = arranged(chat.nodes, chat.head)
    return chat


def _chatgpt(raw: dict[str, Any]) -> Chat:
    """Read an entry of `conversations.json`: ``mapping`` has nodes by ID, each with its parent."""
    now = datetime.now(UTC)
    chat = Chat(
        "chatgpt",
        key_of(raw.get("conversation_id") or raw.get("id"), raw),
        title(raw.get("title")),
        created=moment(raw.get("create_time")) or now,
        updated=moment(raw.get("update_time")) or moment(raw.get("create_time")) or now,
        head=_id(raw.get("current_node")),
        archived=raw.get("is_archived") is True,
    )
    for key, entry in raw["mapping"].items():
        if not isinstance(entry, dict):
            continue
        node = Node(key, _id(entry.get("parent")), None)
        chat.nodes.append(node)
        message = entry.get("message")
        if not isinstance(message, dict):
            continue
        metadata = _dict(message.get("metadata"))
        author = _dict(message.get("author")).get("role")
        role = _role(author)
        if role is None or metadata.get("is_visually_hidden_from_conversation") is True:
            chat.left_out += author == "tool"
            continue
        if message.get("recipient") not in {None, "", "all"}:
            # A call of a tool, such as a search or a canvas.
            chat.left_out += 1
            continue
        content = _dict(message.get("content"))
        node.content, missing = _chatgpt_content(content)
        if role == "assistant":
            node.content = marks.without_citations(node.content, metadata)
            node.reasoning = _thoughts(content)
        attached = len(_list(metadata.get("attachments")))
        chat.left_out += max(missing - bool(node.reasoning), attached)
        node.role = role
        node.moment = moment(message.get("create_time"))
        slug = metadata.get("model_slug") or raw.get("default_model_slug")
        node.model = _name(slug) if role == "assistant" else ""
    return chat


def _chatgpt_content(content: dict[str, Any]) -> tuple[str, int]:
    """Return the text, and the number of parts without text."""
    match content.get("content_type"):
        case "text" | "multimodal_text":
            parts = content.get("parts")
            parts = parts if isinstance(parts, list) else []
            spoken = [text(part.get("text") if isinstance(part, dict) else part) for part in parts]
            return "\n\n".join(filter(None, spoken)), _pictures(parts)
        case "code":
            code = text(content.get("text"))
            language = content.get("language")
            known = isinstance(language, str) and language.isalnum() and language != "unknown"
            return f"```{language if known else ''}\n{code}\n```" if code else "", 0
        case _:
            # Reasoning, or the output of a tool.
            return "", 1


def _thoughts(content: dict[str, Any]) -> str:
    """Return the reasoning of a node that contains nothing else."""
    if content.get("content_type") != "thoughts":
        return ""
    found = [_dict(one) for one in _list(content.get("thoughts"))]
    steps = [(text(one.get("summary")), text(one.get("content"))) for one in found]
    return "\n\n".join("\n\n".join(filter(None, step)) for step in steps if any(step))


def _pictures(parts: list[Any]) -> int:
    return sum(isinstance(part, dict) and not text(part.get("text")) for part in parts)


def _open_webui(raw: dict[str, Any]) -> Chat:
    """Read an entry of the "export chats" array: the tree is in ``chat.history``."""
    inner = raw["chat"]
    now = datetime.now(UTC)
    created = moment(raw.get("created_at")) or moment(inner.get("timestamp")) or now
    history = _dict(inner.get("history"))
    messages = history.get("messages")
    if not isinstance(messages, dict):
        raise Unreadable(_("It has no messages."))
    chat = Chat(
        "openwebui",
        key_of(raw.get("id") or inner.get("id"), raw),
        title(inner.get("title") or raw.get("title")),
        created=created,
        updated=moment(raw.get("updated_at")) or created,
        head=_id(history.get("currentId")),
        archived=raw.get("archived") is True,
        pinned=raw.get("pinned") is True,
    )
    instructions = inner.get("system") or _dict(inner.get("params")).get("system")
    chat.left_out += bool(text(instructions).strip())
    for key, entry in messages.items():
        if not isinstance(entry, dict):
            continue
        content = entry.get("content")
        if isinstance(content, list):
            parts = [text(_dict(part).get("text")) for part in content]
            chat.left_out += parts.count("")
            content = "\n\n".join(filter(None, parts))
        role = _role(entry.get("role"))
        content, reasoning, calls = text(content), "", 0
        if role == "assistant":
            content, reasoning, calls = marks.separated(content)
        chat.left_out += len(_list(entry.get("files"))) + calls
        chat.nodes.append(
            Node(
                key,
                _id(entry.get("parentId")),
                role,
                content,
                moment(entry.get("timestamp")),
                _name(entry.get("model")),
                reasoning=reasoning,
            )
        )
    return chat


def _own(raw: dict[str, Any]) -> Chat:
    """Read what `writers.py` writes."""
    created = moment(raw.get("created_at")) or datetime.now(UTC)
    chat = Chat(
        "chatsite",
        key_of(raw.get("id"), raw),
        title(raw.get("title")),
        created=created,
        updated=moment(raw.get("updated_at")) or created,
        head=_id(raw.get("head")),
        archived=raw.get("archived") is True,
        pinned=raw.get("pinned") is True,
    )
    for document in map(_document, _list(raw.get("documents"))):
        if document is not None:
            chat.documents[document.key] = document
    for entry in raw["messages"]:
        if isinstance(entry, dict) and (key := _id(entry.get("id"))):
            given = _list(entry.get("attachments"))
            role = _role(entry.get("role"))
            known = [one for one in given if isinstance(one, str) and one in chat.documents]
            documents = known[: storage.PER_MESSAGE] if role == "user" else []
            chat.left_out += len(given) - len(documents)
            chat.nodes.append(
                Node(
                    key,
                    _id(entry.get("parent")),
                    role,
                    text(entry.get("content")),
                    moment(entry.get("created_at")),
                    _name(entry.get("model")),
                    list(dict.fromkeys(documents)),
                    _syntax(entry.get("syntax")),
                )
            )
    return chat


def _document(raw: Any) -> Document | None:
    """Return a document; None if it is invalid or longer than an attachment may be."""
    entry = _dict(raw)
    key, content = _id(entry.get("id")), text(entry.get("text"))
    if key is None or not 0 < len(content) <= settings.ENV.attachment_chars:
        return None
    size, pages, kind = entry.get("size"), entry.get("pages"), entry.get("kind")
    return Document(
        key,
        storage.clean_name(text(entry.get("name"))),
        size if _is_count(size) else len(content.encode()),
        str(kind) if kind in _KINDS else "text",
        pages if _is_count(pages) else None,
        content,
    )


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _syntax(raw: Any) -> OutputSyntax:
    """Return how an answer marks its reasoning, if the marks are known ones."""
    try:
        syntax = msgspec.convert(raw, OutputSyntax)
    except msgspec.ValidationError:
        return PLAIN
    marks = (syntax.think_open, syntax.think_close)
    return syntax if marks in REASONING or marks == ("", "") else PLAIN


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _role(value: Any) -> Role | None:
    if value == "user":
        return "user"
    return "assistant" if value == "assistant" else None


def _name(value: Any) -> str:
    return " ".join(text(value).split())[:200]
