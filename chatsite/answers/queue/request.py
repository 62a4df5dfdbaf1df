"""The message that web processes send to inference hosts through Redis."""

from __future__ import annotations

from typing import Final

import msgspec

from chatsite.engine.contract.messages import (
    CHAT,
    ChatMessage,
    Embed,
    Priority,
    PromptOptions,
    SamplingParams,
)

# The queue of health checks; no model can have this name. A host answers them without an engine.
PROBE_MODEL: Final = "@healthz"


class QueuedRequest(
    msgspec.Struct, frozen=True, rename={"resume_text": "written", "title_for": "untitled"}
):
    """One answer to generate.

    ``id`` is the generation's ID; ``owner`` the user's ID as text; ``model`` the name as users see
    it; ``queued_at`` in seconds since the epoch. With ``embed`` this is an embedding request, and
    only its inputs are used. ``resume_text`` is the text of an answer that is continued. The model
    stays loaded for ``keep_alive`` idle seconds afterwards, without limit if negative; None: as
    configured. ``title_for`` is the conversation that gets a title afterwards.
    The stream of a ``temporary`` request expires soon after its end. ``request_id`` is that of the
    request or command that queued it, for log lines; ``traceparent`` its span, empty without
    tracing.

    MessagePack in the hash `redis_keys.job_key`; two fields are stored under their earlier names.
    """

    id: str
    owner: str
    model: str
    messages: tuple[ChatMessage, ...]
    queued_at: float
    params: SamplingParams = SamplingParams()
    options: PromptOptions = PromptOptions()
    priority: Priority = CHAT
    embed: Embed | None = None
    resume_text: str = ""
    keep_alive: float | None = None
    title_for: str = ""
    temporary: bool = False
    request_id: str = ""
    traceparent: str = ""
