"""Every message on the browser's WebSocket (`/ws/chat/`), JSON text frames.

A browser sends commands. Those with an ``id`` of the browser's choice get a response with the same
id, an event; the ids of turns are idempotency keys. The server sends events.

Text arrives as `Delta` ranges: ``start`` is the cursor that the text follows, ``end`` the one
after it. A client keeps one cursor per generation, applies a delta only if ``start`` equals it,
then moves to ``end``; on any other ``start`` above it, it subscribes again from its cursor.
After a reconnect it does the same, so nothing is shown twice and nothing is missing.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatsite import json_input
from chatsite.conversations import schema
from chatsite.conversations.attachments.selection import Chosen
from chatsite.engine.contract.messages import PLAIN, OutputSyntax, SamplingParams
from chatsite.stream.entries import EndState

Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
RequestId = Annotated[str, Meta(min_length=1, max_length=64)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Cursor = Annotated[int, Meta(ge=0)]
Attachments = Annotated[tuple[Id, ...], Meta(max_length=10)]
Selections = Annotated[tuple[Chosen, ...], Meta(max_length=10)]
# Collections of a conversation.
COLLECTIONS = 20
Collections = Annotated[tuple[Id, ...], Meta(max_length=COLLECTIONS)]


class Command(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    pass


class Send(Command, frozen=True, tag="send"):
    """Add a user message after ``parent`` and request an answer.

    ``parent`` is null for the first message of a conversation. ``conversation`` null starts a new
    one; its id is in `Accepted`. ``keep_latest``, if not null, changes the conversation's setting,
    ``collections`` the documents that are searched for its questions.
    An ``assistant`` has its own model. ``selections`` say what is sent of the attachments; of those
    without one, what fits.
    """

    id: RequestId
    content: str
    model: ModelName
    conversation: Id | None = None
    parent: Id | None = None
    params: SamplingParams = SamplingParams()
    keep_latest: bool | None = None
    assistant: Id | None = None
    attachments: Attachments = ()
    selections: Selections = ()
    collections: Collections | None = None


class Edit(Command, frozen=True, tag="edit"):
    """Add a sibling of the user message ``message`` with other content, and request an answer.

    ``attachments`` null keeps those of the message. ``selections`` are as in `Send`.
    """

    id: RequestId
    message: Id
    content: str
    model: ModelName
    params: SamplingParams = SamplingParams()
    keep_latest: bool | None = None
    assistant: Id | None = None
    attachments: Attachments | None = None
    selections: Selections = ()


class Regenerate(Command, frozen=True, tag="regenerate"):
    """Request a sibling of the answer ``message``."""

    id: RequestId
    message: Id
    model: ModelName
    params: SamplingParams = SamplingParams()
    keep_latest: bool | None = None
    assistant: Id | None = None


class TemporaryMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message of a temporary chat; ``syntax`` is how the text of an answer marks reasoning."""

    role: Literal["user", "assistant"]
    content: str
    syntax: OutputSyntax = PLAIN


TemporaryBranch = Annotated[tuple[TemporaryMessage, ...], Meta(max_length=2000)]


class SendTemporary(Command, frozen=True, tag="temporary"):
    """Request an answer in a temporary chat, whose messages only the page has.

    ``messages`` is the branch up to the user message to answer. ``resume_text`` is the text of a
    truncated answer to continue. ``collections`` are searched for the answer.
    """

    id: RequestId
    messages: Annotated[TemporaryBranch, Meta(min_length=1)]
    model: ModelName
    params: SamplingParams = SamplingParams()
    keep_latest: bool = False
    assistant: Id | None = None
    resume_text: str = ""
    collections: Collections = ()


class CountTokens(Command, frozen=True, tag="measure"):
    """Count the tokens of ``content``.

    With ``branch`` also of the rest of the prompt: the conversation up to ``parent``, as it is sent
    to the model, and attachments. The page sends the ``messages`` of a temporary chat instead of
    ``conversation`` and ``parent``. A later command replaces a pending one. ``collections`` are
    those of a conversation that is not saved.
    """

    id: RequestId
    model: ModelName
    content: str = ""
    branch: bool = False
    conversation: Id | None = None
    parent: Id | None = None
    messages: TemporaryBranch = ()
    attachments: Attachments = ()
    selections: Selections = ()
    collections: Collections = ()
    assistant: Id | None = None


class Continue(Command, frozen=True, tag="continue"):
    """Continue the truncated answer ``message`` with the same model.

    It was truncated by the length limit, a stop or a fault, and must be the last message of its
    branch.
    """

    id: RequestId
    message: Id


class Stop(Command, frozen=True, tag="stop"):
    id: RequestId
    generation: Id


class Subscribe(Command, frozen=True, tag="subscribe"):
    """Follow a generation from ``cursor`` (0: from its first character)."""

    generation: Id
    cursor: Cursor = 0


class Unsubscribe(Command, frozen=True, tag="unsubscribe"):
    generation: Id


class Ack(Command, frozen=True, tag="ack"):
    """The client has applied all text up to ``cursor``.

    Without acknowledgements the server sends a bounded amount only; pending text is merged into the
    next delta.
    """

    generation: Id
    cursor: Cursor


# What makes a turn.
TurnCommand = Send | Edit | Regenerate | Continue
AnyCommand = TurnCommand | SendTemporary | CountTokens | Stop | Subscribe | Unsubscribe | Ack


class Event(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Searching(Event, frozen=True, tag="searching"):
    """Documents are being searched for the turn of ``command``, an id; its response follows."""

    command: str


class Accepted(Event, frozen=True, tag="accepted"):
    """A turn command is saved and queued, and the sender is subscribed.

    ``user_message`` is null for `Regenerate` and `Continue`. A continued answer has a new
    generation, whose stream begins with the existing text.
    """

    id: str
    conversation: schema.Conversation
    assistant_message: schema.Message
    user_message: schema.Message | None


class TemporaryAccepted(Event, frozen=True, tag="temporary_accepted"):
    """A `SendTemporary` is queued, and the sender is subscribed.

    The message of its `Ended` has the generation's ID, and no conversation and parent: only the
    page knows them.
    """

    id: str
    generation: schema.Generation


class Stopped(Event, frozen=True, tag="stopped"):
    """The `Stop` was forwarded; the generation's `Ended` follows."""

    id: str
    generation: str


class TokenCounts(Event, frozen=True, tag="measured"):
    """Token counts.

    ``context`` is the model's context length for prompt and answer. ``estimated``: the model isn't
    loaded, or was too busy to count. Without ``branch`` only ``message`` is counted.
    ``attachments`` are by id: the tokens of what is sent of each. Of those in ``matching`` the
    passages that match the question are sent. ``passages`` is the most that passages of documents
    take, null if none are searched.
    """

    id: str
    context: int
    message: int
    estimated: bool
    system: int | None = None
    history: int | None = None
    attachments: dict[str, int] | None = None
    matching: list[str] | None = None
    passages: int | None = None


class Waiting(Event, frozen=True, tag="waiting"):
    """Repeated while an answer is queued, also after its model crashed.

    ``ahead`` counts the requests before it; ``model`` is ``ready``, ``tuning``, ``loading`` (with
    ``progress`` 0 to 1), ``waiting`` (for memory or a host), ``unreachable`` (its engines don't
    respond) or ``failed``. ``seconds`` is the estimated wait; null unless the model is ready and
    enough answers were measured.
    """

    generation: str
    ahead: int
    model: str
    progress: float | None = None
    seconds: int | None = None


class Started(Event, frozen=True, tag="started"):
    """A slot generates the answer. Attempt 2 and later continue after a fault.

    ``syntax`` has the markers of reasoning and tool calls.
    """

    generation: str
    attempt: int
    syntax: OutputSyntax = PLAIN


class Delta(Event, frozen=True, tag="delta", omit_defaults=True):
    """Text of an answer. ``reasoning_ms`` is the duration of its reasoning, once it has ended."""

    generation: str
    start: int
    end: int
    text: str
    reasoning_ms: float | None = None


class Alive(Event, frozen=True, tag="alive"):
    """Heartbeat of an answer without new text, about every two seconds.

    A client that gets none is not being served.
    """

    generation: str


class Ended(Event, frozen=True, tag="ended"):
    """Sent once, after all text.

    ``cursor`` is the last delta's ``end``: a client at another cursor subscribes again. ``message``
    is the saved answer; the client shows its content if it differs from the streamed text.
    """

    generation: str
    state: EndState
    cursor: int
    message: schema.Message


class Changed(Event, frozen=True, tag="changed"):
    """A hint that one of the user's conversations is new, renamed, deleted or has a new answer.

    The client fetches it again if it shows it. ``conversation`` null: many conversations or a
    folder changed, so the client fetches its list and the conversation that it shows. May be lost;
    never needed for text.
    """

    conversation: str | None
    what: Literal["created", "updated", "deleted"]


class Notices(Event, frozen=True, tag="notices"):
    """The notices above the page have changed; ``digest`` names the new ones."""

    digest: str


class Error(Event, frozen=True, tag="error"):
    """A refused command or failed generation.

    ``id`` and ``generation`` name what was refused, if known. The message of ``error`` is in the
    user's language.
    """

    error: schema.ErrorBody
    id: str | None = None
    generation: str | None = None


AnyEvent = (
    Searching
    | Accepted
    | TemporaryAccepted
    | Stopped
    | TokenCounts
    | Waiting
    | Started
    | Delta
    | Alive
    | Ended
    | Changed
    | Notices
    | Error
)

encoder = msgspec.json.Encoder()
_command_decoder: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)


def decode_command(data: str | bytes) -> AnyCommand:
    """Return the command. Raises `json_input.BadJson` for invalid JSON or an unknown shape."""
    return json_input.decode(data, _command_decoder)


def encode_event(event: AnyEvent) -> str:
    return encoder.encode(event).decode()
