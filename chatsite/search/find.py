"""Full-text search of a user in their own conversations."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import TypedDict

from chatsite.accounts.models import User
from chatsite.conversations import schema, serialize
from chatsite.conversations.models import Conversation
from chatsite.search import index
from chatsite.search.models import Entry
from chatsite.text_terms import Query, parse

# Conversations per page of results, hits per conversation, and index entries per page.
_CONVERSATIONS, _HITS_EACH = 10, 3
_SCANNED_MAX = 300
_SNIPPET_BEFORE, _SNIPPET_CHARS = 40, 180
_BLANKS = re.compile(r"\s+")

Span = tuple[int, int]
_MESSAGE = ("message", "message__role", "message__created_at", "message__content")
# Entry ID, then the fields of `_MESSAGE`, then the matches.
Hit = tuple[int, uuid.UUID, str, datetime, str, list[Span]]


class SearchHit(TypedDict):
    """A matching message. ``snippet`` alternates between plain text and matches."""

    message: str
    role: str
    created_at: str
    snippet: list[str]


class SearchResult(TypedDict):
    """A matching conversation. ``title`` alternates between plain text and matches."""

    conversation: schema.Conversation
    title: list[str]
    hits: list[SearchHit]


class SearchResults(TypedDict):
    """A page of results. ``before`` is the cursor of the next page, null at the end."""

    results: list[SearchResult]
    before: str | None


def search(user: User, text: str, before: int | None = None) -> SearchResults:
    """Return conversations whose title matches, then those with the newest matching messages."""
    query = parse(text)
    if not query.patterns:
        return {"results": [], "before": None}
    titled = _find_titles(user, query) if before is None else {}
    hits, further = _find_messages(user, query, before)
    last = Entry.objects.of(user).filter(pk__in=[found[0][0] for found in hits.values()])
    written = {
        entry.conversation_id: entry.conversation
        for entry in last.select_related("conversation").defer("terms")
    }
    results = [
        _result(conversation, query, hits.get(conversation.pk, []))
        for conversation in {**titled, **{id: written[id] for id in hits if id in written}}.values()
    ]
    return {"results": results, "before": str(further) if further else None}


def _find_titles(user: User, query: Query) -> dict[uuid.UUID, Conversation]:
    ids = index.matching(user.pk, query, titles=True, before=None, limit=_SCANNED_MAX)
    entries = Entry.objects.of(user).filter(pk__in=ids[: 2 * _CONVERSATIONS])
    found = [
        entry.conversation
        for entry in entries.select_related("conversation").defer("terms")
        if query.find(entry.conversation.title) is not None
    ]
    found.sort(key=lambda conversation: conversation.updated_at, reverse=True)
    return {conversation.pk: conversation for conversation in found[:_CONVERSATIONS]}


def _find_messages(
    user: User, query: Query, before: int | None
) -> tuple[dict[uuid.UUID, list[Hit]], int | None]:
    """Return hits by conversation, newest first, and the entry at which the next page starts.

    Texts are read only as far as needed: in a conversation about one topic every message matches.
    """
    ids = index.matching(user.pk, query, titles=False, before=before, limit=_SCANNED_MAX)
    rows = Entry.objects.of(user).filter(pk__in=ids).order_by("-pk")
    waiting: dict[uuid.UUID, list[int]] = {}
    for id, conversation in rows.values_list("pk", "conversation"):
        waiting.setdefault(conversation, []).append(id)
    hits: dict[uuid.UUID, list[Hit]] = {}
    order = list(waiting)
    at = 0
    while at < len(order) and len(hits) < _CONVERSATIONS:
        some = order[at : at + _CONVERSATIONS - len(hits)]
        _read(user, query, [id for one in some for id in waiting[one][:_HITS_EACH]], hits)
        rest = [one for one in some if len(hits.get(one, ())) < _HITS_EACH]
        _read(user, query, [id for one in rest for id in waiting[one][_HITS_EACH:]], hits)
        at += len(some)
    newest_first = dict(sorted(hits.items(), key=lambda item: item[1][0][0], reverse=True))
    if at < len(order):
        return newest_first, waiting[order[at]][0] + 1
    return newest_first, ids[-1] if len(ids) == _SCANNED_MAX else None


def _read(user: User, query: Query, ids: list[int], hits: dict[uuid.UUID, list[Hit]]) -> None:
    """Add the entries that match to ``hits``."""
    if not ids:
        return
    rows = Entry.objects.of(user).filter(pk__in=ids).order_by("-pk")
    for id, conversation, *message in rows.values_list("pk", "conversation", *_MESSAGE):
        key, _role, _moment, content = message
        found = hits.get(conversation, [])
        # A long message has several entries.
        if len(found) == _HITS_EACH or any(hit[1] == key for hit in found):
            continue
        spans = query.find(content)
        if spans is not None:
            hits.setdefault(conversation, []).append((id, *message, spans))


def _result(conversation: Conversation, query: Query, hits: list[Hit]) -> SearchResult:
    title = conversation.title
    return {
        "conversation": serialize.conversation(conversation),
        "title": _pieces(title, query.find(title) or []),
        "hits": [
            {
                "message": str(key),
                "role": role,
                "created_at": moment.isoformat(),
                "snippet": snippet(content, spans),
            }
            for _id, key, role, moment, content, spans in hits
        ],
    }


def snippet(text: str, spans: list[Span]) -> list[str]:
    """Return the surroundings of the first match as pieces, in one line."""
    first = spans[0][0]
    start = max(0, first - _SNIPPET_BEFORE)
    if start and (blank := _BLANKS.search(text, start, first)):
        start = blank.end()
    end = min(len(text), start + _SNIPPET_CHARS)
    inside = [(a - start, min(b, end) - start) for a, b in spans if a < end]
    pieces = [_BLANKS.sub(" ", piece) for piece in _pieces(text[start:end], inside)]
    pieces[0] = f"…{pieces[0]}" if start else pieces[0].lstrip()
    pieces[-1] = f"{pieces[-1]}…" if end < len(text) else pieces[-1].rstrip()
    return pieces


def _pieces(text: str, spans: list[Span]) -> list[str]:
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], text[start:end]]
        at = end
    return [*pieces, text[at:]]
