"""All frames on the pipe between the inference host and an engine child.

Frames are MessagePack, each preceded by its length (4 bytes, little endian; see `frames.py`). The
host writes `ToChild`, the child writes `ToHost`. Structs are frozen: a frame is never modified.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from chatsite.engine.contract.offload import PROCESSOR, Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.sandbox.protection import Protection

Role = Literal["system", "user", "assistant", "tool"]
# ``repetition``: the answer repeated itself; see `repetition.py`.
FinishReason = Literal["stop", "length", "repetition", "cancelled"]
# Finish reason of a generation that an administrator stopped; its engine child only sees a
# `Cancel`.
STOPPED_BY_ADMINISTRATOR: Final = "administrator"
# Reasons that leave the answer incomplete.
CUT: Final = frozenset({"length", "repetition", STOPPED_BY_ADMINISTRATOR})


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made; ``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a conversation.

    ``reasoning`` and ``tool_calls`` belong to assistant messages. ``tool_call_id`` and
    ``tool_name`` identify the call that a message of role ``tool`` answers.
    """

    role: Role
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; ``parameters`` is the JSON schema of its arguments."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str = ""
    parameters: dict[str, Any] = {}


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampling of one sequence; ranges are checked when a frame or request is decoded.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and penalties of 1 (repeat)
    or 0 (presence, frequency) disable the stage. ``repeat_last_n`` is in tokens, -1 for the whole
    context. ``seed`` None draws a random one. ``max_tokens`` None means up to the end of the
    context. Before ``min_tokens`` the model can't end the answer. ``logit_bias`` is (token, bias)
    pairs. ``top_logprobs`` None returns no log probabilities, a number those of each token and of
    that many of the most likely alternatives. Any of ``stop_tokens`` ends the answer and is not
    part of it. The answer conforms to ``json_schema`` (JSON mode is ``{"type": "object"}``), or
    else to ``grammar`` (GBNF). ``stop_repetition`` ends an answer that repeats itself
    (`repetition.py`), not before ``min_tokens`` and not with ``ignore_eos``.
    """

    temperature: Annotated[float, Meta(ge=0, le=5)] = 0.6
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] = 40
    top_p: Annotated[float, Meta(gt=0, le=1)] = 0.9
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.05
    typical_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] = 1.0
    repeat_last_n: Annotated[int, Meta(ge=-1, le=1_000_000)] = 64
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    seed: Annotated[int, Meta(ge=0, le=2**32 - 2)] | None = None
    stop: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=16)
    ] = ()
    stop_tokens: Annotated[
        tuple[Annotated[int, Meta(ge=0, lt=2**31)], ...], Meta(max_length=64)
    ] = ()
    max_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    ignore_eos: bool = False
    min_tokens: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    logit_bias: Annotated[
        tuple[
            tuple[Annotated[int, Meta(ge=0, lt=2**31)], Annotated[float, Meta(ge=-100, le=100)]],
            ...,
        ],
        Meta(max_length=1024),
    ] = ()
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    json_schema: dict[str, Any] | None = None
    grammar: Annotated[str, Meta(max_length=100_000)] = ""
    stop_repetition: bool = False


class PromptOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How messages become a prompt.

    ``tool_choice`` is ``auto``, ``none``, ``required``, or the name of one of ``tools``. ``think``
    None leaves reasoning to the template, and so does an empty ``effort``, a word for the amount of
    reasoning. With ``continue_final`` the last message is the beginning of the answer: only its
    continuation is emitted.

    ``raw`` is continued unchanged, without template or messages; with ``suffix`` the text in
    between is generated. It is text, or tokens mixed with texts. With ``echo`` it precedes the
    answer, and its tokens get log probabilities where the answer's do; ``only``: nothing follows
    it.

    A prompt that exceeds the context is an error; with ``keep_latest`` the oldest messages are left
    out and the `Started` frame says how many. The first ``administered`` messages are an
    administrator's: only their tokens may be shared between owners. ``template`` replaces the
    model's own chat template (Jinja2); it came with the request unless ``template_administered``.
    ``progress``: the client is sent the length of the prompt when it gets its slot. ``context``
    bounds the tokens of prompt and answer together below the model's context; 0 does not.
    """

    tools: Annotated[tuple[Tool, ...], Meta(max_length=128)] = ()
    tool_choice: str = "auto"
    think: bool | None = None
    effort: Annotated[str, Meta(max_length=32)] = ""
    continue_final: bool = False
    raw: str | tuple[int | str, ...] | None = None
    suffix: str = ""
    echo: Literal["", "prompt", "only"] = ""
    progress: bool = False
    overflow: Literal["error", "keep_latest"] = "error"
    administered: Annotated[int, Meta(ge=0)] = 0
    template: str = ""
    template_administered: bool = False
    context: Annotated[int, Meta(ge=0)] = 0


Priority = Literal[0, 1, 2, 3]
# Order of requests, within the limits of fairness between users. BATCH is work that no user waits
# for, such as indexing documents: it is behind all others in the queue too.
CHAT: Final = 0
API: Final = 1
BACKGROUND: Final = 2
BATCH: Final = 3


class OutputSyntax(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model marks reasoning, answer and tool calls in its text; `output.py` parses it.

    Answers begin with ``think_open`` even where the template wrote it, so that the text alone shows
    where its reasoning is. ``answer_open`` and ``answer_close`` enclose the answer after the
    reasoning, ``call_open`` and ``call_close`` the calls of ``marked``. An empty string: the model
    has no such mark.
    """

    think_open: str = ""
    think_close: str = ""
    tools: Literal["", "hermes", "llama", "mistral", "marked", "harmony"] = ""
    answer_open: str = ""
    answer_close: str = ""
    call_open: str = ""
    call_close: str = ""


PLAIN: Final = OutputSyntax()


# Host to child.


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first frame.

    ``context`` is in tokens per slot, capped by the model's trained context. ``step_target_ms``
    bounds one engine step. ``cache_bytes`` is the RAM for sequences evicted from their slots.
    """

    name: str
    path: str
    tuning: Tuning
    context: Annotated[int, Meta(ge=64)]
    slots: Annotated[int, Meta(ge=1, le=256)]
    step_target_ms: Annotated[float, Meta(gt=0)]
    cache_bytes: Annotated[int, Meta(ge=0)] = 0
    offload: Offload = PROCESSOR


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """A request for an answer.

    ``prefix`` is answer text that an earlier attempt already published: the child appends it to the
    prompt and emits only what follows. ``owner`` scopes the cache. ``generated`` counts the tokens
    of ``prefix`` against ``max_tokens``.
    """

    id: str
    owner: str
    messages: tuple[ChatMessage, ...]
    params: SamplingParams = SamplingParams()
    prefix: str = ""
    generated: int = 0
    options: PromptOptions = PromptOptions()
    priority: Priority = CHAT


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """A request for the vectors of ``inputs``, or for their relevance to ``query``.

    With ``query``, which needs a reranker, the result has one number per input: the model's score.
    An input longer than the context is cut with ``truncate``, else the request fails with
    ``context_length_exceeded``. A ``batch`` is computed while no other request has inputs left.
    """

    id: str
    owner: str
    inputs: Annotated[tuple[str | tuple[int | str, ...], ...], Meta(max_length=2048)]
    truncate: bool = False
    query: str | None = None
    batch: bool = False


class CountTokens(msgspec.Struct, frozen=True, tag="measure"):
    """A request to count the tokens of a prompt (``messages`` or ``options.raw``) and of ``texts``.

    Each of ``texts`` is counted separately. ``ids`` requests the prompt's tokens, ``pieces`` their
    bytes. In raw text ``special`` parses control tokens, and ``enclosed`` adds the tokens that the
    model expects around a text. The request is queued with those of ``owner``. The reply,
    `TokenCounts` or `Failed`, does not wait for steps.
    """

    id: str
    messages: tuple[ChatMessage, ...] = ()
    options: PromptOptions = PromptOptions()
    texts: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    ids: bool = False
    pieces: bool = False
    special: bool = True
    enclosed: bool = False
    owner: str = ""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    id: str


class Cache(msgspec.Struct, frozen=True, tag="cache"):
    """Set the RAM for sequences evicted from their slots to ``bytes``."""

    bytes: Annotated[int, Meta(ge=0)]


class DropCache(msgspec.Struct, frozen=True, tag="drop_cache"):
    """Drop the KV cache of ``owner``, in idle slots and in RAM; a busy slot's after its request."""

    owner: str


class HoldBatches(msgspec.Struct, frozen=True, tag="hold_batches"):
    """Stop to compute the batches of `Embed`, or resume them if not ``held``.

    The host holds them while it answers users, also with other models: all children share its
    processors.
    """

    held: bool


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    pass


ToChild = (
    Load | Generate | Embed | CountTokens | Cancel | Cache | DropCache | HoldBatches | Shutdown
)


# Child to host.


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """Load progress, from 0 to 1."""

    progress: float


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready.

    ``context`` is the real capacity of one slot, in tokens. ``protection`` is the child's sandbox,
    ``renderer_protection`` that of the processes that render templates.
    """

    context: int
    slots: int
    architecture: str
    parameters: int
    vocabulary: int
    template_source: Literal["gguf", "fallback", "none"]
    load_ms: float
    rss_bytes: int
    syntax: OutputSyntax = PLAIN
    embedding_size: int = 0
    protection: Protection = Protection()
    renderer_protection: Protection = Protection()


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    code: str
    message: str


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The prompt has a slot. ``cached_tokens`` of ``prompt_tokens`` need no prefill."""

    id: str
    prompt_tokens: int
    cached_tokens: int
    left_out: int = 0


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """Natural logarithm of a token's probability before the sampling stages.

    ``piece`` is the token's bytes, ``top`` the most likely tokens, best first. NaN for the first
    token of an echoed prompt, which nothing precedes.
    """

    token: int
    piece: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """Output of one step for a sequence: text, its token count, ``logprobs`` if requested."""

    id: str
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class Step(msgspec.Struct, frozen=True, tag="step"):
    """All text of one engine step, in one frame."""

    deltas: tuple[Delta, ...]


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """Engine counters since the model was loaded.

    ``cached`` prompt tokens needed no prefill. ``saved_bytes`` are in the RAM tier. ``own_seconds``
    is the CPU time of the engine thread outside the model.
    """

    steps: int = 0
    step_seconds: float = 0.0
    prefilled: int = 0
    decoded: int = 0
    cached: int = 0
    drafted: int = 0
    accepted: int = 0
    running: int = 0
    waiting: int = 0
    saved_bytes: int = 0
    restored: int = 0
    own_seconds: float = 0.0


class Usage(msgspec.Struct, frozen=True):
    """Tokens and milliseconds of one generation inside the child.

    ``queue_ms`` runs from arrival to slot, ``prefill_ms`` from slot to first token, ``decode_ms``
    from first token to last. Of ``drafted`` tokens, ``accepted`` were right. ``left_out`` messages
    did not fit the context.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_ms: float
    prefill_ms: float
    decode_ms: float
    drafted: int = 0
    accepted: int = 0
    left_out: int = 0


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last frame of a request that ran; its last text precedes it in a `Step`."""

    id: str
    reason: FinishReason
    usage: Usage


class EmbeddedPart(msgspec.Struct, frozen=True, tag="embedded_part"):
    """Vectors of an `Embed`, in input order.

    Zero or more of these frames precede `Embedded`, which continues them.
    """

    id: str
    vectors: bytes


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """The last frame of an `Embed`.

    ``vectors`` are consecutive L2-normalized vectors of ``size`` little-endian float32, in input
    order. Scores of a reranker are vectors of ``size`` 1, as the model computes them. ``tokens``
    counts the tokens of all inputs.
    """

    id: str
    vectors: bytes
    size: int
    tokens: int


class TokenCounts(msgspec.Struct, frozen=True, tag="measured"):
    """The reply to `CountTokens`.

    ``prompt`` counts the tokens of the whole prompt (0 without messages), ``head`` those of its
    beginning that comes from the template and the administered messages, ``texts`` those of each
    text. ``tokens`` and ``pieces`` of the prompt are present if requested.
    """

    id: str
    prompt: int
    head: int
    texts: tuple[int, ...]
    tokens: tuple[int, ...] = ()
    pieces: tuple[bytes, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The last frame of a request that could not run or continue.

    ``code`` is one of `chatsite.errors` where it applies (``context_length_exceeded``), else
    ``engine_error``, or ``request_refused`` when this model can't do what was requested.
    ``details`` holds figures for the message (``prompt_tokens``, ``context``).
    """

    id: str
    code: str
    message: str
    details: dict[str, int] = {}


Answered = Finished | Embedded | TokenCounts | Failed
ToHost = Loading | Loaded | LoadFailed | Started | Step | Stats | EmbeddedPart | Answered
