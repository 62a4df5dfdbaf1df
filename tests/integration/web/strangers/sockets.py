"""The rows of the sockets: who may open them, and each command on objects of another user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatsite.accounts.roles import Role

ADMIN: Final = "ws/admin/"
CHAT: Final = "ws/chat/"


@dataclass(frozen=True)
class SocketRow:
    """A command of a socket. Strings ``$name`` in it are facts of the table, of the owner.

    ``owner`` is the type of the event that answers the owner, ``other`` the error code for another
    user, who must not learn whether the object exists. Both are "" for a command without an answer.
    A row without a command is about opening the socket; ``roles`` may.
    """

    path: str
    command: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    other: str = ""
    roles: tuple[Role, ...] = tuple(Role)


def _chat(type: str, owner: str = "", other: str = "", **values: Any) -> SocketRow:
    return SocketRow(CHAT, {"type": type, **values}, owner, other)


_MODEL: Final = {"id": "r", "model": "smollm2:135m"}
_NEW: Final = {**_MODEL, "content": "Hello"}
_TEMPORARY: Final = {
    **_MODEL,
    "messages": [{"role": "user", "content": "Hello"}],
    "assistant": "$assistant",
}
_BOOKS: Final = {
    **_MODEL,
    "messages": [{"role": "user", "content": "Hello"}],
    "collections": ["$books"],
}
_PLACE: Final = {"conversation": "$conversation", "parent": "$message"}

ROWS: list[SocketRow] = [
    SocketRow(CHAT),
    _chat("send", "accepted", "not_found", **_NEW, **_PLACE),
    _chat("send", "accepted", "assistant_not_found", **_NEW, assistant="$assistant"),
    _chat("send", "error", "attachment_gone", **_NEW, attachments=["$attachment"]),
    _chat("send", "accepted", "collection_not_found", **_NEW, collections=["$books"]),
    _chat("edit", "accepted", "not_found", **_NEW, message="$question"),
    _chat("regenerate", "accepted", "not_found", **_MODEL, message="$message"),
    _chat("continue", "accepted", "not_found", id="r", message="$cut"),
    _chat("temporary", "temporary_accepted", "assistant_not_found", **_TEMPORARY),
    _chat("temporary", "temporary_accepted", "collection_not_found", **_BOOKS),
    _chat("measure", "measured", "not_found", **_NEW, **_PLACE, branch=True),
    _chat("stop", "stopped", "not_found", id="r", generation="$generation"),
    _chat("subscribe", "ended", "not_found", generation="$generation"),
    _chat(
        "temporary",
        "temporary_accepted",
        "assistant_not_found",
        **_MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        assistant="$assistant",
    ),
    _chat("unsubscribe", generation="$generation"),
    _chat("ack", generation="$generation", cursor=0),
    SocketRow(ADMIN, roles=(Role.ADMINISTRATOR, Role.MODEL_MANAGER)),
]
