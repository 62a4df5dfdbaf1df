"""What crosses Redis between the web processes and the inference hosts."""

from __future__ import annotations

import msgspec

from chatsite.engine.messages import (
    CHAT,
    ChatMessage,
    Embed,
    Priority,
    PromptOptions,
    SamplingParams,
)


class Job(msgspec.Struct, frozen=True):
    """One answer to be made. ``id`` is the generation's; ``owner`` the person's id as text;
    ``model`` the name as people see it; ``queued_at`` in seconds since the epoch. With ``embed``
    vectors are wanted, and nothing but its inputs counts. ``written`` is the text of an answer that
    is continued. ``keep_alive`` seconds the model stays afterwards, for ever if negative; None for
    its own. ``untitled`` is the conversation that wants a title afterwards, if one does.
    MessagePack in the hash ``job:<id>``."""

    id: str
    owner: str
    model: str
    messages: tuple[ChatMessage, ...]
    queued_at: float
    params: SamplingParams = SamplingParams()
    options: PromptOptions = PromptOptions()
    priority: Priority = CHAT
    embed: Embed | None = None
    written: str = ""
    keep_alive: float | None = None
    untitled: str = ""
