"""A conversation as a page takes it in: its whole shape at once, its messages piece by piece."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Exists, OuterRef, Q, Value, When

from chatsite.chat import serialize
from chatsite.chat.attachments import store
from chatsite.chat.models import Conversation, Message
from chatsite.engine.output import REASONING
from chatsite.errors import NotFound

# Messages that are sent at a time: some screens.
PAGE = 40

_ROLES = {Message.Role.USER: 0, Message.Role.ASSISTANT: 1, Message.Role.SYSTEM: 2}
_EMPTY = 4


@dataclass(frozen=True)
class Shape:
    """The messages of a conversation without their text, oldest first: (id, parent, kind)."""

    nodes: list[tuple[uuid.UUID, uuid.UUID | None, int]]

    def as_json(self) -> list[list[Any]]:
        """``[id, place of the parent in this list or -1, kind]`` for each message. ``kind`` is 0
        for a person's message, 1 for an answer, 2 for a system message, and 4 more for what is in
        no prompt: without text or attachments, or nothing but reasoning."""
        places = {id: place for place, (id, _, _) in enumerate(self.nodes)}
        return [
            [str(id), -1 if parent is None else places[parent], kind]
            for id, parent, kind in self.nodes
        ]

    def branch(self, leaf: uuid.UUID | None) -> list[uuid.UUID]:
        """``leaf`` and all above it, newest first; without one, the newest branch."""
        parents = {id: parent for id, parent, _ in self.nodes}
        if leaf not in parents:
            leaf = self._newest_leaf()
        branch: list[uuid.UUID] = []
        while leaf is not None:
            branch.append(leaf)
            leaf = parents[leaf]
        return branch

    def _newest_leaf(self) -> uuid.UUID | None:
        newest = {parent: id for id, parent, _ in self.nodes}
        leaf = None
        while leaf in newest:
            leaf = newest[leaf]
        return leaf


def shape(conversation: Conversation) -> Shape:
    given = Message.attachments.through.objects.filter(message_id=OuterRef("pk"))
    bare = Q(content="") & ~Exists(given)
    begins, ends = Q(), Q()
    for mark, closing in REASONING:
        begins |= Q(content__startswith=mark)
        ends |= Q(content__contains=closing)
    only_thinks = Q(generation__syntax__has_key="think_open") & begins & ~ends
    empty = Case(When(bare | only_thinks, then=Value(_EMPTY)), default=Value(0))
    rows = conversation.messages.order_by("created_at", "id").annotate(empty=empty)
    return Shape(
        [
            (id, parent, _ROLES[Message.Role(role)] + empty)
            for id, parent, role, empty in rows.values_list("id", "parent_id", "role", "empty")
        ]
    )


def opening(conversation: Conversation) -> dict[str, Any]:
    """The conversation, its shape, and the last messages of the branch that was shown last."""
    tree = shape(conversation)
    return {
        "conversation": serialize.conversation(conversation),
        "tree": tree.as_json(),
        "messages": _messages(tree.branch(conversation.head_id)[:PAGE]),
    }


def until(conversation: Conversation, id: uuid.UUID) -> dict[str, Any]:
    """The message ``id`` and those above it, as many as come at a time."""
    tree = shape(conversation)
    if not any(node == id for node, _, _ in tree.nodes):
        raise NotFound
    return {"messages": _messages(tree.branch(id)[:PAGE])}


def _messages(ids: list[uuid.UUID]) -> list[dict[str, Any]]:
    rows = Message.objects.select_related("generation__assistant").prefetch_related(store.GIVEN)
    found = rows.in_bulk(ids)
    return [serialize.message(found[id]) for id in reversed(ids)]
