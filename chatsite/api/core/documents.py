"""Answers from collections of documents, by the request's field ``collections``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated

import msgspec
from django.utils.translation import gettext as _
from msgspec import Meta

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.answers.runtime import runtime
from chatsite.api.core.database import in_database
from chatsite.api.core.http import BadField
from chatsite.engine.contract.messages import ChatMessage
from chatsite.knowledge.models import Collection
from chatsite.knowledge.requests import name_of, with_passages_of
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from models_admin import catalogue

# IDs or names.
Collections = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=20)
]


class Citation(msgspec.Struct, frozen=True):
    """The passage that the mark ``[number]`` in the answer stands for.

    ``page`` counts from 1 and is null where the document has no pages; ``start`` and ``end`` are
    characters of the document's text.
    """

    number: int
    document: str
    name: str
    page: int | None
    last_page: int | None
    heading: str
    start: int
    end: int
    text: str


async def with_documents(
    caller: Caller,
    model: str,
    messages: Sequence[ChatMessage],
    collections: Sequence[str] | None,
) -> tuple[Sequence[ChatMessage], list[Citation] | None]:
    """Return the messages with the passages that match the last one, and the passages.

    Without ``collections`` the messages are returned as they are, with None. Raises `BadField` for
    a collection that the caller may not read, `ModelMissing` or `NotAllowed`.
    """
    if not collections:
        return messages, None

    def found() -> tuple[list[Collection], int]:
        decisions.require(caller.user, Feature.KNOWLEDGE)
        context = catalogue.context(catalogue.find(model, caller.user))
        return _readable(caller.user, collections), context

    searched, context = await in_database(found)
    answerable = await with_passages_of(
        runtime(), caller.user, messages, searched, context=context, secret=uuid.uuid4().hex[:8]
    )
    citations = [
        Citation(
            number=number,
            document=str(one.document_id),
            name=name_of(one),
            page=one.page,
            last_page=one.last_page,
            heading=one.heading,
            start=one.start,
            end=one.end,
            text=one.text,
        )
        for number, one in enumerate(answerable.passages, 1)
    ]
    return answerable.messages, citations


def _readable(user: User, wanted: Sequence[str]) -> list[Collection]:
    """Return collections by ID or name. Raises `BadField`."""
    rows = Collection.objects.readable_by(user).distinct()
    found: dict[uuid.UUID, Collection] = {}
    for index, one in enumerate(wanted):
        try:
            matching = list(rows.filter(pk=uuid.UUID(one)))
        except ValueError:
            matching = list(rows.filter(name=one)[:2])
        param = f"collections[{index}]"
        if not matching:
            text = _("collections: “%(name)s” does not exist, or you may not read it.")
            raise BadField(text % {"name": one}, param=param)
        if len(matching) > 1:
            text = _("collections: several are named “%(name)s”. Use the ID.")
            raise BadField(text % {"name": one}, param=param)
        found[matching[0].pk] = matching[0]
    return list(found.values())
