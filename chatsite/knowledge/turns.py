"""Passages for the answer of a turn: searched between saving and queueing it.

A turn is answered in any case. What could not be searched, and why, is saved with it and shown.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from asgiref.sync import sync_to_async
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import BooleanField, Exists, F, OuterRef, Q
from django.db.models.expressions import RawSQL
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.answers.runtime import Runtime
from chatsite.conversations import prompt
from chatsite.conversations.assistants.models import Assistant
from chatsite.conversations.attachments.models import Attachment, Selection
from chatsite.conversations.models import Conversation, Generation, Message
from chatsite.documents.chunks import split
from chatsite.engine.contract.messages import ChatMessage
from chatsite.knowledge import index
from chatsite.knowledge.augment import Excerpt, chosen, most, room, tokens, with_passages
from chatsite.knowledge.errors import CollectionMissing
from chatsite.knowledge.models import (
    AssistantCollection,
    Citation,
    Collection,
    ConversationCollection,
    Document,
    Passage,
    Retrieval,
)
from chatsite.knowledge.retrieve import Result, Scope, retrieve
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from models_admin import catalogue

if TYPE_CHECKING:
    from django.db.models import QuerySet

log = logging.getLogger(__name__)

_SEARCHES: Final = (
    "(EXISTS (SELECT 1 FROM knowledge_conversationcollection own"
    " WHERE own.conversation_id = {column})"
    " OR EXISTS (SELECT 1 FROM attachments_selection part"
    " JOIN chat_message sent ON sent.id = part.message_id"
    " WHERE sent.conversation_id = {column} AND part.pages = ''))"
)
# Less than the age at which the reaper takes a turn that is not queued for an orphan.
_SECONDS: Final = 15.0
# Messages before the question that may say what it refers to.
_HISTORY: Final = 6
_HISTORY_CHARS: Final = 2000


@dataclass(frozen=True)
class _Plan:
    """What to search for an answer, and the tokens that its passages may take."""

    user: User
    question: str
    history: tuple[str, ...]
    collections: tuple[uuid.UUID, ...]
    attachments: tuple[uuid.UUID, ...]
    space: int


def searches(column: Literal["chat_conversation.id", "chat_message.conversation_id"]) -> RawSQL:
    """Return whether documents are searched in the conversation that a column names, for a query.

    Part of the query that fetches a conversation, so that turns without documents cost none. It is
    SQL because building it as an expression takes longer than the database needs for it.
    Assistants may bring more documents.
    """
    return RawSQL(_SEARCHES.format(column=column), (), output_field=BooleanField())  # noqa: S611


def of_assistant(assistant: Assistant | None) -> bool:
    """Return whether documents are searched for each question to an assistant."""
    if assistant is None:
        return False
    return AssistantCollection.objects.filter(assistant=assistant).exists()


def collections_of_assistant(assistant: Assistant | None, user: User) -> list[Collection]:
    """Return the collections of an assistant that the user may read now."""
    if assistant is None or not decisions.allows(user, Feature.KNOWLEDGE):
        return []
    attached = AssistantCollection.objects.filter(assistant=assistant).values("collection")
    return list(Collection.objects.readable_by(user).filter(pk__in=attached).distinct())


def collections_of(conversation: Conversation, user: User) -> QuerySet[Collection]:
    """Return the collections of a conversation that the user may read now."""
    attached = ConversationCollection.objects.filter(conversation=conversation)
    return Collection.objects.readable_by(user).filter(pk__in=attached.values("collection"))


def set_collections(conversation: Conversation, user: User, ids: Sequence[str | uuid.UUID]) -> None:
    """Make these the collections of a conversation. Raises `CollectionMissing`."""
    found = readable(user, ids)
    with transaction.atomic():
        rows = ConversationCollection.objects.filter(conversation=conversation)
        rows.exclude(collection__in=found).delete()
        ConversationCollection.objects.bulk_create(
            [ConversationCollection(conversation=conversation, collection=one) for one in found],
            ignore_conflicts=True,
        )


def readable(user: User, ids: Sequence[str | uuid.UUID]) -> list[Collection]:
    """Return these collections.

    Raises `CollectionMissing` if the user may not read one of them, or `NotAllowed`.
    """
    wanted = {uuid.UUID(str(id)) for id in ids}
    if not wanted:
        return []
    decisions.require(user, Feature.KNOWLEDGE)
    found = list(Collection.objects.readable_by(user).filter(pk__in=wanted).distinct())
    if len(found) != len(wanted):
        raise CollectionMissing
    return found


async def prepare(
    runtime: Runtime,
    answer: Message,
    generation: Generation,
    *,
    on_search: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Search the documents of a saved answer and save its passages, if there is anything to search.

    Does nothing for an answer that was prepared before. A failure never keeps an answer from being
    queued. Raises `DatabaseError` only if the database is down.
    """
    plan = await sync_to_async(_plan)(answer, generation)
    if plan is None:
        return
    if on_search is not None:
        await on_search()
    result: Result | None = None
    missing = ""
    if plan.space > 0 and (limit := most(plan.space, attachments=bool(plan.attachments))) > 0:
        result = await search(
            runtime,
            plan.user,
            plan.question,
            Scope(plan.collections, plan.attachments),
            history=plan.history,
            limit=limit,
        )
        missing = "" if result else "failed"
    else:
        missing = "no_room"
    await sync_to_async(_save)(answer, plan, result, missing)


async def search(
    runtime: Runtime,
    user: User,
    question: str,
    scope: Scope,
    *,
    history: Sequence[str] = (),
    limit: int,
) -> Result | None:
    """Return what `retrieve` finds within 15 seconds; None if it fails."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await retrieve(runtime, user, question, scope, history=history, limit=limit)
    except TimeoutError:
        log.warning("Documents are not searched: it takes too long")
    except DatabaseError:
        raise  # the turn is tried again
    except Exception:
        log.exception("Documents can't be searched")
    return None


def _plan(answer: Message, generation: Generation) -> _Plan | None:
    question, user = answer.parent, generation.owner
    if answer.passages is not None or question is None or user is None:
        return None
    attached = Q(
        pk__in=ConversationCollection.objects.filter(conversation=answer.conversation_id).values(
            "collection"
        )
    )
    if generation.assistant_id is not None:
        attached |= Q(
            pk__in=AssistantCollection.objects.filter(assistant=generation.assistant_id).values(
                "collection"
            )
        )
    readable_ones = Collection.objects.readable_by(user).filter(attached).distinct()
    allowed = decisions.allows(user, Feature.KNOWLEDGE)
    collections = tuple(readable_ones.values_list("pk", flat=True)) if allowed else ()
    asked = bool(collections) or Collection.objects.filter(attached).exists()
    branch = prompt.branch(question)
    parts = Selection.objects.filter(message__in=[one.pk for one in branch], pages="")
    attachments = tuple(set(parts.values_list("attachment_id", flat=True)))
    if not asked and not attachments:
        return None
    _ensure_passages(attachments)
    model = catalogue.installed(generation.model)
    said = prompt.build(question)
    needed = said[-1:] if answer.conversation.keep_latest else said
    text = question.content.strip() or " ".join(
        Attachment.objects.filter(pk__in=attachments).values_list("name", flat=True)
    )
    return _Plan(
        user=user,
        question=text,
        history=tuple(one.content[:_HISTORY_CHARS] for one in said[:-1][-_HISTORY:]),
        collections=collections,
        attachments=attachments,
        space=room(catalogue.context(model), sum(tokens(one.content) for one in needed)),
    )


def _ensure_passages(attachments: Sequence[uuid.UUID]) -> None:
    """Put attachments in the index that are not there yet."""
    if not attachments:
        return
    known = Passage.objects.filter(attachment=OuterRef("pk"))
    for one in Attachment.objects.filter(~Exists(known), pk__in=attachments):
        put_attachment(one)


def put_attachment(attachment: Attachment) -> None:
    """Split the text of an attachment into passages that can be searched."""
    with transaction.atomic():
        index.put_attachment(attachment, split(attachment.text, attachment.page_starts or ()))


def _save(answer: Message, plan: _Plan, result: Result | None, missing: str) -> None:
    found = [one.passage for one in result.found] if result else []
    mode = result.mode if result else "words"
    missing = missing or (result.missing if result else "")
    kept = [found[at] for at in chosen([one.text for one in found], plan.space)]
    if found and not kept:
        missing = "no_room"
    if not found and plan.attachments and (spread := _spread(plan.attachments, plan.space)):
        kept, missing = spread, "spread"
    try:
        with transaction.atomic():
            retrieval = Retrieval.objects.create(
                message=answer,
                mode=mode,
                missing=missing,
                searched=result.searched_documents if result else 0,
                considered=len(found),
            )
            versions = dict(
                Document.objects.filter(
                    pk__in={one.document_id for one in kept if one.document_id}
                ).values_list("pk", "version")
            )
            Citation.objects.bulk_create(
                Citation(
                    retrieval=retrieval,
                    number=number,
                    passage=one,
                    document_id=one.document_id,
                    attachment_id=one.attachment_id,
                    version=versions.get(one.document_id, 1) if one.document_id else 1,
                    start=one.start,
                    end=one.end,
                    page=one.page,
                    last_page=one.last_page,
                )
                for number, one in enumerate(kept, 1)
            )
            Message.objects.filter(pk=answer.pk).update(passages=len(kept))
            Document.objects.filter(pk__in=versions).update(
                uses=F("uses") + 1, used_at=timezone.now()
            )
    except IntegrityError:
        # The reaper, or the same command on another socket, was first; or the answer is gone.
        answer.refresh_from_db(fields=["passages"])
        return
    answer.passages = len(kept)


def _spread(attachments: Sequence[uuid.UUID], space: int) -> list[Passage]:
    """Return passages from the beginning to the end of attachments that nothing matched in."""
    rows = Passage.objects.filter(attachment__in=attachments).order_by("attachment", "number")
    ids = list(rows.values_list("pk", flat=True))
    count = min(most(space, attachments=True), len(ids))
    while count > 0:
        found = Passage.objects.in_bulk([ids[at * len(ids) // count] for at in range(count)])
        spread = [found[id] for id in sorted(found, key=ids.index)]
        fitting = len(chosen([one.text for one in spread], space))
        if fitting == len(spread):
            return spread
        count = fitting
    return []


def augment(
    messages: Sequence[ChatMessage], answer: Message, generation: Generation
) -> tuple[ChatMessage, ...]:
    """Put the passages of an answer before the question, in the last of ``messages``.

    Only those that the owner may read now. All other messages stay as they are.
    """
    if not answer.passages or answer.parent is None or generation.owner is None:
        return tuple(messages)
    rows = (
        Citation.objects.filter(retrieval=answer.pk)
        .filter(visible_to(generation.owner))
        .exclude(passage=None)
        .select_related("passage", "document", "attachment")
        .defer("attachment__text")
    )
    excerpts = []
    for one in rows:
        passage = one.passage
        if passage is not None:
            name = citation_name(one)
            excerpts.append(
                Excerpt(one.number, name, passage.heading, one.page, one.last_page, passage.text)
            )
    secret = str(answer.pk)[:8]
    return with_passages(messages, answer.parent.content, excerpts, secret)


def visible_to(user: User) -> Q:
    """Return the condition that a user may read the document of a citation now."""
    readable_ones = Collection.objects.readable_by(user)
    return Q(attachment__owner=user) | Q(document__collection__in=readable_ones.values("pk"))


def citation_name(citation: Citation) -> str:
    """Return the name of the cited document without its folders, "" if it is gone."""
    if citation.attachment is not None:
        return citation.attachment.name
    return citation.document.path.rpartition("/")[2] if citation.document else ""
