"""Passages for requests that are not stored: API requests and temporary chats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asgiref.sync import sync_to_async
from django.db.models import F
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.answers.runtime import Runtime
from chatsite.conversations import schema
from chatsite.engine.contract.messages import ChatMessage
from chatsite.knowledge.augment import Excerpt, chosen, most, room, tokens, with_passages
from chatsite.knowledge.models import Collection, Document, Passage
from chatsite.knowledge.retrieve import Result, Scope
from chatsite.knowledge.turns import search

# Messages before the question that may say what it refers to, and characters of each.
_HISTORY: Final = 6
_HISTORY_CHARS: Final = 2000


@dataclass(frozen=True)
class Answerable:
    """Messages with passages before the last question, and the passages by their numbers."""

    messages: tuple[ChatMessage, ...]
    passages: tuple[Passage, ...]
    sources: schema.Sources


async def with_passages_of(
    runtime: Runtime,
    user: User,
    messages: Sequence[ChatMessage],
    collections: Sequence[Collection],
    *,
    context: int,
    secret: str,
) -> Answerable:
    """Search ``collections`` for the last of ``messages``, if that is a user's.

    ``context`` is the model's, in tokens. ``secret`` is as in `augment.with_passages`. A failed
    search is in the sources; it raises nothing.
    """
    last = messages[-1] if messages else None
    if last is None or last.role != "user":
        return Answerable(tuple(messages), (), _sources(None, (), "failed"))
    space = room(context, sum(tokens(one.content) for one in messages))
    limit = most(space, attachments=False)
    if limit < 1:
        return Answerable(tuple(messages), (), _sources(None, (), "no_room"))
    result = await search(
        runtime,
        user,
        last.content,
        Scope(tuple(one.pk for one in collections), ()),
        history=tuple(one.content[:_HISTORY_CHARS] for one in messages[:-1][-_HISTORY:]),
        limit=limit,
    )
    found = [one.passage for one in result.found] if result else []
    kept = tuple(found[at] for at in chosen([one.text for one in found], space))
    missing = "failed" if result is None else "no_room" if found and not kept else result.missing

    def finish() -> Answerable:
        excerpts = [
            Excerpt(number, name_of(one), one.heading, one.page, one.last_page, one.text)
            for number, one in enumerate(kept, 1)
        ]
        used = {one.document_id for one in kept if one.document_id}
        if used:
            rows = Document.objects.filter(pk__in=used)
            rows.update(uses=F("uses") + 1, used_at=timezone.now())
        augmented = with_passages(messages, last.content, excerpts, secret)
        return Answerable(augmented, kept, _sources(result, kept, missing))

    return await sync_to_async(finish)()


def name_of(passage: Passage) -> str:
    """Return the name of a passage's document without its folders."""
    if passage.attachment is not None:
        return passage.attachment.name
    return passage.document.path.rpartition("/")[2] if passage.document else ""


def _sources(result: Result | None, kept: Sequence[Passage], missing: str) -> schema.Sources:
    documents = {
        str(one.document_id): schema.CitedDocument(
            id=str(one.document_id),
            kind="document",
            name=name_of(one),
            pages=one.document.pages,
            state="available",
        )
        for one in kept
        if one.document is not None
    }
    return schema.Sources(
        mode=result.mode if result else "words",
        missing=missing,
        searched=result.searched_documents if result else 0,
        documents=list(documents.values()),
        passages=[
            schema.CitedPassage(number, str(one.document_id), one.page, one.last_page, one.pk)
            for number, one in enumerate(kept, 1)
        ],
        removed=0,
    )
