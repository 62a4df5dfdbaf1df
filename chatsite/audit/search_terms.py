"""Search terms of events: the words of their texts, and one term per value that is filtered by."""

from __future__ import annotations

import hashlib

from chatsite.audit.models import Event
from chatsite.text_terms import terms


def text(event: Event) -> str:
    """Return the searched text of an event."""
    return " ".join(
        (
            *(event.actor_name, event.kind, event.target_name, event.target_type),
            *(event.target_id, event.address, event.request_id, event.via, event.details),
        )
    )


def of(event: Event) -> set[str]:
    users = {event.actor_name}
    if event.target_type == "user":
        users.add(event.target_name)
    return terms(text(event)) | {
        filter_term("kind", event.kind),
        filter_term("outcome", event.outcome),
        filter_term("domain", event.kind.partition(".")[0]),
        *(filter_term("user", name) for name in users if name),
    }


def filter_term(field: str, value: str) -> str:
    """Return the term of a value. No text contains it, and it is one token in both databases."""
    return f"§{field[0]}{hashlib.sha256(value.lower().encode()).hexdigest()[:16]}"
