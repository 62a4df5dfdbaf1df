"""What users see of the passages that an answer was given.

The rights of now apply: an answer keeps its marks, but a passage is shown only to users who may
read its document.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.conversations import schema
from chatsite.conversations.models import Message
from chatsite.errors import ChatsiteError
from chatsite.knowledge.models import Citation, Collection, ConversationCollection, Retrieval
from chatsite.knowledge.turns import citation_name, visible_to

if TYPE_CHECKING:
    from django.db.models import QuerySet


class CitationGone(ChatsiteError):
    code = "citation_gone"
    status = 404
    message = _("This document was deleted. Its passages can no longer be shown.")


class CitationDenied(ChatsiteError):
    code = "citation_denied"
    status = 403
    message = _("You no longer have access to this document. Ask its owner to share it with you.")


class CitationNotFound(ChatsiteError):
    code = "citation_not_found"
    status = 404
    message = _("This answer has no such citation.")


def attached(user: User, conversation: uuid.UUID) -> list[schema.CollectionFace]:
    """Return the collections of a conversation that the user may read now."""
    rows = ConversationCollection.objects.filter(conversation=conversation)
    found = Collection.objects.readable_by(user).filter(pk__in=rows.values("collection"))
    return [schema.CollectionFace(str(one.pk), one.name) for one in found.distinct()]


def of_messages(user: User, messages: Sequence[Message]) -> dict[uuid.UUID, schema.Sources]:
    """Return the sources of answers, by message, in three queries."""
    answers = {one.pk: one for one in messages}
    retrievals = Retrieval.objects.filter(pk__in=answers).in_bulk()
    by_answer: dict[uuid.UUID, list[Citation]] = {}
    for one in _citations(retrieval__in=retrievals):
        by_answer.setdefault(one.retrieval_id, []).append(one)
    cited = [one.pk for several in by_answer.values() for one in several]
    visible = set(
        Citation.objects.filter(visible_to(user), pk__in=cited).values_list("pk", flat=True)
    )
    return {
        id: _sources(retrieval, answers[id], by_answer.get(id, []), visible)
        for id, retrieval in retrievals.items()
    }


def of_message(user: User, message: Message) -> schema.Sources | None:
    """Return the sources of an answer; None if no documents were searched for it."""
    if message.passages is None:
        return None
    return of_messages(user, [message]).get(message.pk)


def quoted(user: User, message: uuid.UUID, number: int) -> schema.Quoted:
    """Return a citation of the user's own conversation with its passage.

    Raises `CitationNotFound`, `CitationGone` or `CitationDenied`.
    """
    own = Message.objects.of(user).filter(pk=message)
    found = _citations(retrieval__message__in=own, number=number).first()
    if found is None:
        raise CitationNotFound
    if found.document is None and found.attachment is None:
        raise CitationGone
    if not Citation.objects.filter(visible_to(user), pk=found.pk).exists():
        raise CitationDenied
    document, attachment, passage = found.document, found.attachment, found.passage
    source = document or attachment
    changed = passage is None or (document is not None and document.version != found.version)
    return schema.Quoted(
        kind="document" if document else "attachment",
        id=str(source.pk) if source else "",
        name=citation_name(found),
        file_kind=source.kind if source else "",
        pages=source.pages if source else None,
        page=found.page,
        last_page=found.last_page,
        start=found.start,
        end=found.end,
        text=passage.text if passage and not changed else "",
        heading=passage.heading if passage and not changed else "",
        changed=changed,
    )


def _citations(**conditions: Any) -> QuerySet[Citation]:
    rows = Citation.objects.filter(**conditions).select_related("document", "attachment")
    return rows.defer("attachment__text").order_by("number")


def _sources(
    retrieval: Retrieval, answer: Message, citations: Sequence[Citation], visible: set[int]
) -> schema.Sources:
    documents: dict[str, schema.CitedDocument] = {}
    passages = []
    for one in citations:
        source = one.document or one.attachment
        available = one.pk in visible
        id = str(source.pk) if source else ""
        documents.setdefault(
            id,
            schema.CitedDocument(
                id=id,
                kind="attachment" if one.attachment else "document",
                name=citation_name(one) if available else "",
                pages=source.pages if source and available else None,
                state="available" if available else "denied" if source else "deleted",
            ),
        )
        shown = available and one.passage_id is not None
        passages.append(
            schema.CitedPassage(
                number=one.number,
                document=id,
                page=one.page,
                last_page=one.last_page,
                passage=one.passage_id if shown else None,
            )
        )
    return schema.Sources(
        mode=retrieval.mode,
        missing=retrieval.missing,
        searched=retrieval.searched,
        documents=list(documents.values()),
        passages=passages,
        removed=answer.marks_removed or 0,
    )
