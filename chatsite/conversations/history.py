"""A conversation as the page loads it: the whole tree at once, the messages in pages."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import Case, Exists, OuterRef, Q, Value, When

from chatsite.conversations import schema, serialize
from chatsite.conversations.attachments import storage
from chatsite.conversations.models import Conversation, Message
from chatsite.engine.prompting.output import REASONING
from chatsite.errors import MessageNotFound

# Messages per page: a few screens.
PAGE = 40

# Returns the sources of answers that were given passages, by message.
SourcesOf = Callable[[list[Message]], dict[uuid.UUID, schema.Sources]]

_ROLES = {Message.Role.USER: 0, Message.Role.ASSISTANT: 1, Message.Role.SYSTEM: 2}
_EMPTY = 4


@dataclass(frozen=True)
class Shape:
    """The messages of a conversation without their text, oldest first: (id, parent, kind)."""

    nodes: list[tuple[uuid.UUID, uuid.UUID | None, int]]

    def as_json(self) -> list[schema.Node]:
        """Return ``[id, index of the parent in this list or -1, kind]`` for each message.

        ``kind`` is 0 for a user's message, 1 for an answer, 2 for a system message, plus 4 for
        messages that are in no prompt: without text and attachments, or with reasoning only.
        """
        places = {id: place for place, (id, _, _) in enumerate(self.nodes)}
        return [
            (str(id), -1 if parent is None else places[parent], kind)
            for id, parent, kind in self.nodes
        ]

    def branch(self, leaf: uuid.UUID | None) -> list[uuid.UUID]:
        """Return ``leaf`` and its ancestors, newest first; without a leaf, the newest branch."""
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


def opening(conversation: Conversation, sources: SourcesOf) -> schema.Opening:
    """Return the conversation, its tree, and the last messages of the shown branch."""
    tree = shape(conversation)
    return schema.Opening(
        conversation=serialize.conversation(conversation),
        tree=tree.as_json(),
        messages=_messages(tree.branch(conversation.head_id)[:PAGE], sources),
    )


def until(conversation: Conversation, id: uuid.UUID, sources: SourcesOf) -> schema.Messages:
    """Return a page of messages that ends with ``id``. Raises `MessageNotFound`."""
    tree = shape(conversation)
    if not any(node == id for node, _, _ in tree.nodes):
        raise MessageNotFound
    return schema.Messages(_messages(tree.branch(id)[:PAGE], sources))


def _messages(ids: list[uuid.UUID], sources: SourcesOf) -> list[schema.Message]:
    rows = Message.objects.select_related("generation__assistant").prefetch_related(
        storage.PREFETCH
    )
    found = rows.in_bulk(ids)
    citing = [one for one in found.values() if one.passages is not None]
    known = sources(citing) if citing else {}
    return [serialize.message(found[id], known.get(id)) for id in reversed(ids)]
