"""Every message on the browser's WebSocket (`/ws/chat/`), JSON text frames.

A browser sends commands; each that changes something carries an ``id`` of the browser's
choosing, which comes back in the `Accepted` or `Error` that answers it. The server sends events.

Text arrives as `Delta` ranges: ``start`` is the cursor that the text follows, ``end`` the one
after it. A client keeps one cursor per generation, applies a delta only if ``start`` equals it,
then moves to ``end``; on any other ``start`` above it, it subscribes again from its cursor.
After a reconnect it does the same, so nothing is shown twice and nothing is missing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chatsite.engine.messages import PLAIN, OutputSyntax, SamplingParams
from chatsite.stream.messages import EndState

Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
RequestId = Annotated[str, Meta(min_length=1, max_length=64)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Cursor = Annotated[int, Meta(ge=0)]
Attachments = Annotated[tuple[Id, ...], Meta(max_length=10)]


class Command(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    pass


class Send(Command, frozen=True, tag="send"):
    """A new user message behind ``parent`` (null for the first of a conversation).
    ``conversation`` null begins one; its id comes back in `Accepted`. ``keep_latest``, where it
    is not null, is the conversation's from now on. The model of an ``assistant`` is its own."""

    id: RequestId
    content: str
    model: ModelName
    conversation: Id | None = None
    parent: Id | None = None
    params: SamplingParams = SamplingParams()
    keep_latest: bool | None = None
    assistant: Id | None = None
    attachments: Attachments = ()


class Edit(Command, frozen=True, tag="edit"):
    """A sibling of the user message ``message`` with other content, and a new answer to it. It has
    the same ``attachments`` if they are null."""

    id: RequestId
    message: Id
    content: str
    model: ModelName
    params: SamplingParams = SamplingParams()
    keep_latest: bool | None = None
    assistant: Id | None = None
    attachments: Attachments | None = None


class Regenerate(Command, frozen=True, tag="regenerate"):
    """A sibling of the answer ``message``."""

    id: RequestId
    message: Id
    model: ModelName
    params: SamplingParams = SamplingParams()
    keep_latest: bool | None = None
    assistant: Id | None = None


class Measure(Command, frozen=True, tag="measure"):
    """How many tokens ``content`` would take; with ``branch`` also what comes with it: the
    conversation up to ``parent``, as it is sent to the model, and attachments. A later one takes
    the place of one that is not answered yet."""

    id: RequestId
    model: ModelName
    content: str = ""
    branch: bool = False
    conversation: Id | None = None
    parent: Id | None = None
    attachments: Attachments = ()
    assistant: Id | None = None


class Continue(Command, frozen=True, tag="continue"):
    """The answer ``message`` was cut (at the length limit, by a stop or a fault): the same model
    goes on behind its last character. It must be the last of its branch."""

    id: RequestId
    message: Id


class Stop(Command, frozen=True, tag="stop"):
    id: RequestId
    generation: Id


class Subscribe(Command, frozen=True, tag="subscribe"):
    """Follow a generation from ``cursor`` on (0: from its first character)."""

    generation: Id
    cursor: Cursor = 0


class Unsubscribe(Command, frozen=True, tag="unsubscribe"):
    generation: Id


class Ack(Command, frozen=True, tag="ack"):
    """The client has applied all up to ``cursor``. A reader that does not acknowledge is sent
    no more than a bounded amount; what waits is merged into the next delta."""

    generation: Id
    cursor: Cursor


# What makes a turn.
Making = Send | Edit | Regenerate | Continue
AnyCommand = Making | Measure | Stop | Subscribe | Unsubscribe | Ack


class Event(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Accepted(Event, frozen=True, tag="accepted"):
    """A `Send`, `Edit`, `Regenerate` or `Continue` is saved and queued; the sender is already
    subscribed. ``user_message`` is null for the last two. A continued answer has a new generation,
    whose stream begins with the text that is there. The three objects have the shapes of the
    conversation endpoint (`serialize.py`)."""

    id: str
    conversation: dict[str, Any]
    assistant_message: dict[str, Any]
    user_message: dict[str, Any] | None


class Stopped(Event, frozen=True, tag="stopped"):
    """The `Stop` was passed on; the generation's `Ended` follows."""

    id: str
    generation: str


class Measured(Event, frozen=True, tag="measured"):
    """Tokens, of the ``context`` that one answer of this model has with all before it.
    ``estimated``: the model isn't loaded, or was too busy to count. Without ``branch`` only
    ``message`` is there. ``attachments`` by id."""

    id: str
    context: int
    message: int
    estimated: bool
    system: int | None = None
    history: int | None = None
    attachments: dict[str, int] | None = None


class Waiting(Event, frozen=True, tag="waiting"):
    """Repeated while an answer waits. ``ahead`` counts the requests before it in line; ``model``
    is ``ready``, ``measuring``, ``loading`` (with ``progress`` 0 to 1), ``waiting`` (for memory
    or a host) or ``failed``. ``seconds`` until the answer begins are told while the model is
    ready, once enough of its answers were measured."""

    generation: str
    ahead: int
    model: str
    progress: float | None = None
    seconds: int | None = None


class Started(Event, frozen=True, tag="started"):
    """A slot works on the answer: attempt 2 and later go on after a fault. ``syntax`` is how the
    text marks reasoning and tool calls (`engine.messages.OutputSyntax`)."""

    generation: str
    attempt: int
    syntax: OutputSyntax = PLAIN


class Delta(Event, frozen=True, tag="delta", omit_defaults=True):
    """``reasoning_ms`` is how long the answer's reasoning took, once it is over."""

    generation: str
    start: int
    end: int
    text: str
    reasoning_ms: float | None = None


class Ended(Event, frozen=True, tag="ended"):
    """Sent once, after all text. ``cursor`` is the last delta's ``end``: a client elsewhere
    subscribes again. ``message`` is the saved answer in full, in the endpoint's shape; the
    client shows its content if it differs from what it has."""

    generation: str
    state: EndState
    cursor: int
    message: dict[str, Any]


class Changed(Event, frozen=True, tag="changed"):
    """A hint that one of the person's conversations is new, renamed, deleted or has a new
    answer: the client fetches it again if it shows it. May be lost; never needed for text."""

    conversation: str
    what: Literal["created", "updated", "deleted"]


class Error(Event, frozen=True, tag="error"):
    """``id`` and ``generation`` say what was refused, where known. ``error`` is
    `ChatsiteError.as_dict`: ``{code, message, permanent, …}``, the message in the person's
    language and fit to be shown."""

    error: dict[str, Any]
    id: str | None = None
    generation: str | None = None


AnyEvent = Accepted | Stopped | Measured | Waiting | Started | Delta | Ended | Changed | Error

encoder = msgspec.json.Encoder()
_command_decoder: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)


def decode_command(data: str | bytes) -> AnyCommand:
    """Raises `msgspec.DecodeError` (bad JSON) or `msgspec.ValidationError` (bad shape)."""
    return _command_decoder.decode(data)


def encode_event(event: AnyEvent) -> str:
    return encoder.encode(event).decode()
