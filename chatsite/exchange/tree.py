"""A conversation from elsewhere, whatever it was exported by, and what is wrong with it.

What is read here was written by other programs and perhaps changed by hand: every value is
looked at before it is believed, nothing recurses, and everything has a bound.
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

from chatsite.engine.messages import PLAIN, OutputSyntax

MESSAGES_MAX = 20_000
CHARACTERS_MAX = 1_000_000
_TITLE_MAX = 200
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)

Source = Literal["chatgpt", "openwebui", "chatsite"]
Role = Literal["user", "assistant"]


class Unreadable(Exception):
    """Why a conversation can't be taken, in words for its owner."""

    def __init__(self, reason: str | Promise) -> None:
        self.reason = reason
        super().__init__(str(reason))


@dataclass(frozen=True)
class Document:
    """What was read from a file that came with a message."""

    key: str
    name: str
    size: int
    kind: str
    pages: int | None
    text: str


@dataclass
class Node:
    """``role`` is None for what is not shown: its children hang on what is above it. ``documents``
    are keys of the conversation's. ``syntax`` is how an answer marks its reasoning."""

    key: str
    parent: str | None
    role: Role | None
    content: str = ""
    moment: datetime | None = None
    model: str = ""
    documents: list[str] = field(default_factory=list)
    syntax: OutputSyntax = PLAIN


@dataclass
class Chat:
    """``nodes`` come with parents before children once `arranged`. ``left_out`` counts pictures,
    files and tools' messages, which have no place here."""

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
    """A text that the database takes: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str):
        return ""
    return value.replace("\x00", "").encode("utf-8", "replace").decode()


def title(value: Any) -> str:
    return " ".join(text(value).split())[:_TITLE_MAX]


def moment(value: Any) -> datetime | None:
    """Seconds, milliseconds or nanoseconds since 1970, or ISO 8601; None for nonsense."""
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
    """The id that the other program gave, or a digest where it gave none that can be used."""
    if isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable():
        return value
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def _check_length(node: Node) -> None:
    """Before it is added to once more: each time copies all of it."""
    if len(node.content) > CHARACTERS_MAX:
        raise Unreadable(_("One of its messages is too long."))


def arranged(nodes: Iterable[Node], head: str | None) -> tuple[list[Node], str | None]:
    """Parents before children, without what is not shown, and answers that tools had cut in two
    joined again; with the head as it is then."""
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
        shown = node.role is not None and (node.content.strip() or node.documents)
        before = kept.get(parent or "")
        straight[node.key] = len(children[above]) == 1 and (above == parent or straight[above])
        if not shown:
            stands_for[node.key] = parent
        elif before and before.role == node.role == "assistant" and straight[node.key]:
            before.content += f"\n\n{node.content}"
            _check_length(before)
            stands_for[node.key] = before.key
        else:
            node.parent = parent
            kept[node.key] = node
            stands_for[node.key] = node.key
    for node in kept.values():
        _check_length(node)
    if not kept:
        raise Unreadable(_("It has no messages."))
    return list(kept.values()), stands_for.get(head)
