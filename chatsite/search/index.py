"""Updates of the index, in the transaction of the indexed row, and queries."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from chatsite.conversations.models import Conversation, Message
from chatsite.search.models import Entry
from chatsite.text_terms import Query, parts, terms

# Bits of an entry's ID below its milliseconds, taken from the message's ID.
_BITS = 20
# The owner, as terms that no text contains. So the posting lists of one user's texts and of a word
# are intersected inside the index, however many other users use that word.
_MESSAGE_OF, _TITLE_OF = "§m", "§t"


@dataclass(frozen=True)
class Source:
    """The source of an entry; ``message`` is None for a title."""

    owner: int
    conversation: uuid.UUID
    message: uuid.UUID | None
    moment: datetime
    text: str


def put(message: Message, owner: int) -> None:
    """Index the current text of a message, replacing its entries."""
    Entry.objects.filter(message=message).delete()
    put_many([of_message(message, owner)])


def put_title(conversation: Conversation) -> None:
    Entry.objects.filter(conversation=conversation, message=None).delete()
    put_many([of_title(conversation)])


def of_message(message: Message, owner: int) -> Source:
    return Source(owner, message.conversation_id, message.pk, message.created_at, message.content)


def of_title(conversation: Conversation) -> Source:
    return Source(
        conversation.owner_id, conversation.pk, None, conversation.created_at, conversation.title
    )


def put_many(sources: Iterable[Source], model: type[Entry] = Entry) -> None:
    """Index messages and titles that have no entry yet. Texts without terms get none."""
    entries = [entry for source in sources for entry in _entries(source, model)]
    ids = [entry.id for entry in entries]
    taken = set(model.objects.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    for entry in entries:
        while entry.id in taken:
            entry.id += 1
            if model.objects.filter(pk=entry.id).exists():
                taken.add(entry.id)
        taken.add(entry.id)
    model.objects.bulk_create(entries, batch_size=500)


def matching(
    owner: int, query: Query, *, titles: bool, before: int | None, limit: int
) -> list[int]:
    """Return IDs of entries of ``owner`` that have all terms of ``query``, newest first.

    At most ``limit``, with IDs below ``before``.
    """
    whose = f"{_TITLE_OF if titles else _MESSAGE_OF}{owner}"
    whole, prefixes = (whose, *sorted(query.whole)), sorted(query.prefixes)
    last = [before or 2**63 - 1, limit]
    if connection.vendor == "postgresql":
        words = [*(f"'{term}'" for term in whole), *(f"'{term}':*" for term in prefixes)]
        # The planner considers a table scan cheap for a common word: it ignores the cost of
        # unpacking the terms.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(_POSTGRESQL, [" & ".join(words), *last])
            return [row[0] for row in cursor.fetchall()]
    words = [*(f'"{term}"' for term in whole), *(f'"{term}" *' for term in prefixes)]
    with connection.cursor() as cursor:
        cursor.execute(_SQLITE, [" AND ".join(words), *last])
        return [row[0] for row in cursor.fetchall()]


# FTS5 walks its lists from the newest entry and stops at the limit; PostgreSQL's index is
# unordered, so it fetches all matches, whose IDs are in a small table (see the migration).
_SQLITE = """
    SELECT rowid FROM search_terms WHERE search_terms MATCH %s AND rowid < %s
    ORDER BY rowid DESC LIMIT %s
"""
_POSTGRESQL = """
    WITH found AS MATERIALIZED (SELECT id FROM search_entry WHERE terms @@ %s::tsquery)
    SELECT id FROM found WHERE id < %s ORDER BY id DESC LIMIT %s
"""


def _entries(source: Source, model: type[Entry]) -> Iterator[Entry]:
    whose = f"{_MESSAGE_OF if source.message else _TITLE_OF}{source.owner}"
    milliseconds = max(0, int(source.moment.timestamp() * 1000))
    distinct = (source.message or source.conversation).int % 2**_BITS
    for number, part in enumerate(parts(source.text)):
        if found := terms(part):
            yield model(
                id=(milliseconds << _BITS | distinct) + number,
                owner_id=source.owner,
                conversation_id=source.conversation,
                message_id=source.message,
                terms={whose, *found},
            )
