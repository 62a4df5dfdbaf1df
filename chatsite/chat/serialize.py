"""The JSON shapes of conversations and messages, for pages, endpoints and the socket."""

from __future__ import annotations

from typing import Any

from chatsite.chat.assistants.store import face
from chatsite.chat.attachments import store
from chatsite.chat.models import Conversation, Folder, Generation, Message
from chatsite.errors import localise


def conversation(item: Conversation) -> dict[str, Any]:
    return {
        "id": str(item.id),
        "title": item.title,
        "head": str(item.head_id) if item.head_id else None,
        "keep_latest": item.keep_latest,
        "folder": str(item.folder_id) if item.folder_id else None,
        "pinned": item.pinned_at is not None,
        "archived": item.archived_at is not None,
        "created_at": item.created_at.isoformat(),
        "updated_at": item.updated_at.isoformat(),
    }


def folder(item: Folder) -> dict[str, Any]:
    return {"id": str(item.id), "name": item.name}


def message(item: Message) -> dict[str, Any]:
    """``item`` should come with ``select_related("generation__assistant")``, which only answers
    have, and with `store.GIVEN`."""
    made = item.role == Message.Role.ASSISTANT and hasattr(item, "generation")
    return {
        "id": str(item.id),
        "conversation": str(item.conversation_id),
        "parent": str(item.parent_id) if item.parent_id else None,
        "role": item.role,
        "content": item.content,
        "created_at": item.created_at.isoformat(),
        "attachments": [store.serialize(one) for one in getattr(item, "given", ())],
        "generation": generation(item.generation) if made else None,
    }


def generation(item: Generation) -> dict[str, Any]:
    return {
        "id": str(item.id),
        "state": item.state,
        "model": item.model,
        "assistant": face(item.assistant) if item.assistant else None,
        "finish_reason": item.finish_reason,
        "error": localise(item.error),
        "usage": {
            "prompt_tokens": item.prompt_tokens,
            "cached_tokens": item.cached_tokens,
            "completion_tokens": item.completion_tokens,
        },
        "left_out": item.left_out,
        "timings": item.timings,
        "syntax": item.syntax,
        "queued_at": item.queued_at.isoformat(),
        "started_at": item.started_at.isoformat() if item.started_at else None,
        "finished_at": item.finished_at.isoformat() if item.finished_at else None,
    }
