"""Rows of the database as the shapes of `schema`."""

from __future__ import annotations

from typing import cast

import msgspec

from chatsite.conversations import schema
from chatsite.conversations.assistants.presets import face
from chatsite.conversations.attachments import storage
from chatsite.conversations.models import Conversation, Folder, Generation, Message
from chatsite.engine.contract.messages import OutputSyntax
from chatsite.errors import localise


def conversation(item: Conversation) -> schema.Conversation:
    return schema.Conversation(
        id=str(item.id),
        title=item.title,
        head=str(item.head_id) if item.head_id else None,
        keep_latest=item.keep_latest,
        folder=str(item.folder_id) if item.folder_id else None,
        pinned=item.pinned_at is not None,
        archived=item.archived_at is not None,
        created_at=item.created_at.isoformat(),
        updated_at=item.updated_at.isoformat(),
    )


def folder(item: Folder) -> schema.Folder:
    return schema.Folder(id=str(item.id), name=item.name)


def message(item: Message, sources: schema.Sources | None = None) -> schema.Message:
    """Return the message; ``sources`` are those of an answer.

    Select it with ``select_related("generation__assistant")``, which only answers have, and
    `storage.PREFETCH`.
    """
    made = item.role == Message.Role.ASSISTANT and hasattr(item, "generation")
    return schema.Message(
        id=str(item.id),
        conversation=str(item.conversation_id),
        parent=str(item.parent_id) if item.parent_id else None,
        role=cast(schema.Role, item.role),
        content=item.content,
        created_at=item.created_at.isoformat(),
        attachments=[storage.serialize(one, item.pk) for one in getattr(item, "given", ())],
        generation=generation(item.generation, sources) if made else None,
    )


def generation(item: Generation, sources: schema.Sources | None = None) -> schema.Generation:
    return schema.Generation(
        id=str(item.id),
        state=cast(schema.GenerationState, item.state),
        model=item.model,
        assistant=face(item.assistant) if item.assistant else None,
        finish_reason=item.finish_reason,
        error=localise(item.error),
        usage=schema.Usage(
            prompt_tokens=item.prompt_tokens,
            cached_tokens=item.cached_tokens,
            completion_tokens=item.completion_tokens,
        ),
        left_out=item.left_out,
        timings=item.timings,
        syntax=msgspec.convert(item.syntax, OutputSyntax),
        queued_at=item.queued_at.isoformat(),
        started_at=item.started_at.isoformat() if item.started_at else None,
        finished_at=item.finished_at.isoformat() if item.finished_at else None,
        sources=sources,
    )
