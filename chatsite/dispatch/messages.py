"""What crosses Redis between the web processes and the inference hosts."""

from __future__ import annotations

import msgspec

from chatsite.engine.messages import ChatMessage, SamplingParams


class Job(msgspec.Struct, frozen=True):
    """One answer to be made. ``id`` is the generation's; ``owner`` the person's id as text;
    ``model`` the name as people see it; ``queued_at`` in seconds since the epoch. MessagePack in
    the hash ``job:<id>``."""

    id: str
    owner: str
    model: str
    messages: tuple[ChatMessage, ...]
    queued_at: float
    params: SamplingParams = SamplingParams()
