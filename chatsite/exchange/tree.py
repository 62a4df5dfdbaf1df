"""An imported conversation in a common form, and the reasons why it can't be imported.

The input was written by other programs and perhaps edited by hand: every value is validated,
nothing recurses, and everything is bounded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.engine.contract.messages import PLAIN, OutputSyntax

MESSAGES_MAX = 20_000
CHARACTERS_MAX = 1_000_000
_TITLE_MAX = 200
_THINKING = OutputSyntax("<think>", "</think>")
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)

Source = Literal["chatgpt", "openwebui", "chatsite"]
Role = Literal["user", "assistant"]


class Unreadable(Exception):
    """Why a conversation can't be imported, in words for its owner."""

    def __init__(self, reason: str | Promise) -> None:
        self.reason = reason
        super().__init__(str(reason))


@dataclass(frozen=True)
class Document:
    """The text of a file that was attached to a message."""

    key: str
    name: str
    size: int
    kind: str
    pages: int | None
    text: str


@dataclass
class Node:
    """A message of the imported tree.

    ``role`` is None for hidden nodes: their children are attached to the parent. ``documents`` are
    keys of `Chat.documents`. ``syntax`` is how an answer marks reasoning in ``content``;
    ``reasoning`` was separate in the export, and `arranged` puts it at the start of ``content``.
    """

    key: str
    parent: str | None
    role: Role | None
    content: str = ""
    moment: datetime | None = None
    model: str = ""
    documents: list[str] = field(default_factory=list)
    syntax: OutputSyntax = PLAIN
    reasoning: str = ""


@dataclass
class Chat:
    """An imported conversation.

    ``nodes`` have parents before children after `arranged`. ``left_out`` counts pictures, files and
    tool messages, which are not supported.
    """

    source: Source
    key: str
    title: str
    created: datetime
    updated: datetime
    head: str | None
    nodes: list[Node] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    archived: bool = False
    pinned: bool = False
    left_out: int = 0


def text(value: Any) -> str:
    """Return a text that the database accepts: without NUL and lone surrogates."""
    if not isinstance(value, str):
        return ""
    return value.replace("\x00", "").encode("utf-8", "replace").decode()


def title(value: Any) -> str:
    return " ".join(text(value).split())[:_TITLE_MAX]


def moment(value: Any) -> datetime | None:
    """Parse seconds, milliseconds or nanoseconds since 1970, or ISO 8601; None if invalid."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, (int, float)):
            seconds = float(value)
            while 1e11 < seconds < 1e20:
                seconds /= 1000
            found = datetime.fromtimestamp(seconds, UTC)
        elif isinstance(value, str):
            found = datetime.fromisoformat(value)
            found = found if found.tzinfo else found.replace(tzinfo=UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return found if _EARLIEST < found < datetime.now(UTC) + timedelta(days=1) else None


def key_of(value: Any, raw: Any) -> str:
    """Return the ID that the other program assigned, or a digest without a usable one."""
    if isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable():
        return value
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def _put_reasoning_first(node: Node) -> None:
    if node.reasoning and node.syntax == PLAIN:
        # The text must not close its own mark.
        reasoning = node.reasoning.replace(_THINKING.think_close, "")
        opens, closes = _THINKING.think_open, _THINKING.think_close
        node.content = f"{opens}\n{reasoning}\n{closes}\n\n{node.content}"
        node.syntax = _THINKING


def check_length(node: Node) -> None:
    """Raise `Unreadable` if a message is too long.

    Called before each further join, since every join copies the whole text.
    """
    if len(node.content) + len(node.reasoning) > CHARACTERS_MAX:
        raise Unreadable(_("One of its messages is too long."))


def arranged(nodes: Iterable[Node], head: str | None) -> tuple[list[Node], str | None]:
    """Return the nodes and the head of the imported tree. Raises `Unreadable`.

    Parents come before children, hidden nodes are removed, and answers that tool calls had split
    are joined.
    """
    known = {node.key: node for node in nodes}
    if len(known) > MESSAGES_MAX:
        raise Unreadable(_("It has too many messages."))
    children: dict[str | None, list[Node]] = {}
    for node in known.values():
        parent = node.parent if node.parent in known else None
        children.setdefault(parent, []).append(node)
    kept: dict[str, Node] = {}
    stands_for: dict[str | None, str | None] = {None: None}
    # Whether nothing branches off between a node and the message that it continues.
    straight: dict[str | None, bool] = {None: False}
    waiting = list(reversed(children.get(None, [])))
    while waiting:
        node = waiting.pop()
        waiting += reversed(children.get(node.key, []))
        above = node.parent if node.parent in known else None
        parent = stands_for[above]
        shown = node.role is not None and (node.content.strip() or node.documents or node.reasoning)
        before = kept.get(parent or "")
        straight[node.key] = len(children[above]) == 1 and (above == parent or straight[above])
        if not shown:
            stands_for[node.key] = parent
        elif before and before.role == node.role == "assistant" and straight[node.key]:
            before.content = "\n\n".join(filter(None, (before.content, node.content)))
            before.reasoning = "\n\n".join(filter(None, (before.reasoning, node.reasoning)))
            before.model = before.model or node.model
            check_length(before)
            stands_for[node.key] = before.key
        else:
            node.parent = parent
            kept[node.key] = node
            stands_for[node.key] = node.key
    for node in kept.values():
        _put_reasoning_first(node)
        check_length(node)
    if not kept:
        raise Unreadable(_("It has no messages."))
    return list(kept.values()), stands_for.get(head)
