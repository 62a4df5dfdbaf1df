"""What of an attachment a message sends: all of it, chosen pages, or what matches the question.

An attachment that doesn't fit into the context is searched: its message says that it exists, and
the passages that match the question are sent with the question (`chatsite.knowledge`).
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
from django.utils.translation import gettext_lazy as _
from msgspec import Meta

from chatsite.conversations import schema
from chatsite.conversations.attachments.models import Attachment, Selection
from chatsite.conversations.models import Message
from chatsite.errors import ChatsiteError

# Share of the context that attachments may take as a whole, if the user chooses nothing.
_SHARE: Final = 0.6
# About the average for English; other texts need more tokens.
_BYTES_PER_TOKEN: Final = 3.5
_RANGE: Final = re.compile(r"(\d{1,6})(?:\s*[-–—]\s*(\d{1,6}))?")
PAGES_CHARS: Final = 200


class BadPages(ChatsiteError):
    code = "bad_pages"
    status = 400
    message = _("The chosen pages don't exist. Enter page numbers or ranges, such as 3-7, 12.")
    detailed = _(
        "“%(pages)s” are no pages of %(name)s. Enter pages between 1 and %(last)s, such as 3-7, 12."
    )


class Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The user's choice for one attachment. ``pages`` are page ranges, for ``pages`` only."""

    attachment: Annotated[str, Meta(max_length=36)]
    send: schema.Sending
    pages: Annotated[str, Meta(max_length=PAGES_CHARS)] = ""


def ranges(pages: str, attachment: Attachment) -> list[tuple[int, int]]:
    """Return ``3-7, 12`` as ascending, disjoint ranges. Raises `BadPages`."""
    last = len(attachment.page_starts or ())
    found = []
    for part in re.split(r"[,;，、；\s]\s*", re.sub(r"\s*([-–—])\s*", r"\1", pages.strip())):
        match = _RANGE.fullmatch(part)
        first = int(match[1]) if match else 0
        end = int(match[2] or match[1]) if match else 0
        if not 1 <= first <= end <= last:
            raise BadPages(pages=pages, name=attachment.name, last=last)
        found.append((first, end))
    merged: list[tuple[int, int]] = []
    for first, end in sorted(found):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def written(found: Iterable[tuple[int, int]]) -> str:
    return ", ".join(str(first) if first == end else f"{first}-{end}" for first, end in found)


def tokens(attachment: Attachment) -> int:
    """Return the tokens of an attachment; an estimate if they were never counted."""
    if attachment.tokens is not None:
        return attachment.tokens
    return math.ceil(len(attachment.text.encode()) / _BYTES_PER_TOKEN)


def choose(
    attachments: Sequence[Attachment], chosen: Iterable[Chosen], context: int
) -> dict[uuid.UUID, str | None]:
    """Return what is sent of each attachment: None for all of it, or `Selection.pages`.

    Where nothing is chosen, the smallest ones are sent whole while they fit into their share of
    ``context``. Raises `BadPages`.
    """
    choices: Mapping[str, Chosen] = {one.attachment: one for one in chosen}
    sent: dict[uuid.UUID, str | None] = {}
    left = context * _SHARE
    for one in sorted(attachments, key=tokens):
        choice = choices.get(str(one.pk))
        if choice is None:
            whole = tokens(one) <= left
            left -= tokens(one) if whole else 0
            sent[one.pk] = None if whole else ""
        elif choice.send == "pages":
            sent[one.pk] = written(ranges(choice.pages, one))
        else:
            sent[one.pk] = None if choice.send == "whole" else ""
    return sent


def of_message(message: Message) -> list[Chosen]:
    """Return the choices of a message, so that an edited one can have the same."""
    sent = dict(message.selections.values_list("attachment_id", "pages"))
    ids = message.attachments.values_list("pk", flat=True) if sent else ()
    return [Chosen(str(id), sending(sent.get(id)), sent.get(id, "")) for id in ids]


def sending(pages: str | None) -> schema.Sending:
    """Return the kind of a selection: None for all, or `Selection.pages`."""
    return "whole" if pages is None else "pages" if pages else "matches"


def save(message: Message, sent: Mapping[uuid.UUID, str | None]) -> None:
    Selection.objects.bulk_create(
        Selection(message=message, attachment_id=id, pages=pages)
        for id, pages in sent.items()
        if pages is not None
    )


def selected_text(attachment: Attachment, pages: str) -> str:
    """Return what a message says of an attachment of which it sends ``pages``."""
    if not pages:
        return "[This document is too long. Passages of it are given with the question.]"
    pages_at = attachment.page_starts or []
    starts = [*pages_at, len(attachment.text)]
    parts = [
        attachment.text[starts[first - 1] : starts[end]].strip()
        for first, end in ranges(pages, attachment)
    ]
    return "\n\n".join([f"[Only pages {pages} of {len(pages_at)}]", *parts])
