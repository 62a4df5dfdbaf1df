"""Every frame on the pipe between the inference host and an engine child.

Frames are MessagePack, each preceded by its length (4 bytes, little endian; see `frames.py`).
The host writes `ToChild`, the child writes `ToHost`. Structs are frozen: a frame is a fact.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from chatsite.engine.offload import PROCESSOR, Offload
from chatsite.engine.tuning import Tuning

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "cancelled"]


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made; ``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """``reasoning`` and ``tool_calls`` belong to answers; ``tool_call_id`` and ``tool_name`` say
    which call a message of role ``tool`` answers."""

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

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and penalties of
    1 (repeat) or 0 (presence, frequency) switch the stage off. ``repeat_last_n`` is in
    tokens, -1 for the whole context. ``seed`` None draws one. ``max_tokens`` None means
    up to the end of the context. Before ``min_tokens`` the answer can't end by itself.
    ``logit_bias`` is (token, bias) pairs. ``top_logprobs`` None gives no log probabilities, a
    number those of each token and of that many of its likeliest rivals. The answer keeps to
    ``json_schema`` (JSON mode is ``{"type": "object"}``), or else to ``grammar`` (GBNF).
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


class PromptOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How messages become a prompt.

    ``tool_choice`` is ``auto``, ``none``, ``required``, or the name of one of ``tools``.
    ``think`` None leaves reasoning to the template. ``raw`` is continued as it is, without
    template or messages, and with ``suffix`` the text in between is asked for. What does not
    fit the context is an error, or with ``keep_latest`` the oldest messages are left out and
    the frame `Started` says how many. The first ``administered`` messages are an
    administrator's: their tokens alone may be shared between owners. ``template`` replaces the
    model's own chat template (jinja2).
    """

    tools: Annotated[tuple[Tool, ...], Meta(max_length=128)] = ()
    tool_choice: str = "auto"
    think: bool | None = None
    raw: str | None = None
    suffix: str = ""
    overflow: Literal["error", "keep_latest"] = "error"
    administered: Annotated[int, Meta(ge=0)] = 0
    template: str = ""


Priority = Literal[0, 1, 2]
# Who goes first, within what fairness between people leaves.
CHAT: Final = 0
API: Final = 1
BACKGROUND: Final = 2


class OutputSyntax(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model marks reasoning and tool calls in its text: see `output.py`, which reads it.
    Answers begin with ``think_open`` even where the template wrote it, so that text says by
    itself where its reasoning is. Empty strings: the model has no such thing."""

    think_open: str = ""
    think_close: str = ""
    tools: Literal["", "hermes", "llama", "mistral"] = ""


PLAIN: Final = OutputSyntax()


# Host to child.


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first frame. ``context`` is in tokens per slot, capped by what the model was
    trained on; ``step_target_ms`` bounds one engine step; ``cache_bytes`` is the RAM for
    conversations that lost their slot."""

    name: str
    path: str
    tuning: Tuning
    context: Annotated[int, Meta(ge=64)]
    slots: Annotated[int, Meta(ge=1, le=256)]
    step_target_ms: Annotated[float, Meta(gt=0)]
    cache_bytes: Annotated[int, Meta(ge=0)] = 0
    offload: Offload = PROCESSOR


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """One request. ``prefix`` is answer text that an earlier attempt already published: the
    child puts it behind the prompt and emits only what follows. ``owner`` scopes the cache.
    ``generated`` counts the tokens of ``prefix`` against ``max_tokens``."""

    id: str
    owner: str
    messages: tuple[ChatMessage, ...]
    params: SamplingParams = SamplingParams()
    prefix: str = ""
    generated: int = 0
    options: PromptOptions = PromptOptions()
    priority: Priority = CHAT


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Vectors of ``inputs``, each of at most a context's tokens: longer ones are cut with
    ``truncate``, else the request fails with ``context_length_exceeded``."""

    id: str
    owner: str
    inputs: Annotated[tuple[str | tuple[int, ...], ...], Meta(max_length=2048)]
    truncate: bool = False


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """Asks how many tokens ``messages`` are as a prompt, and each of ``texts`` by itself.
    Answered beside what is computed, by `Measured` or `Failed`."""

    id: str
    messages: tuple[ChatMessage, ...] = ()
    options: PromptOptions = PromptOptions()
    texts: Annotated[tuple[str, ...], Meta(max_length=256)] = ()


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    id: str


class Cache(msgspec.Struct, frozen=True, tag="cache"):
    """The RAM for conversations that lost their slot is ``bytes`` from now on."""

    bytes: Annotated[int, Meta(ge=0)]


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    pass


ToChild = Load | Generate | Embed | Measure | Cancel | Cache | Shutdown


# Child to host.


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """``progress`` runs from 0 to 1."""

    progress: float


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model answers. ``context`` is what one slot really holds, in tokens."""

    context: int
    slots: int
    architecture: str
    parameters: int
    vocabulary: int
    template_source: Literal["gguf", "fallback"]
    load_ms: float
    rss_bytes: int
    syntax: OutputSyntax = PLAIN
    embedding_size: int = 0


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
    """Natural logarithm of a token's probability before sampling stages; ``piece`` is its bytes,
    ``top`` the likeliest tokens, best first."""

    token: int
    piece: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What one step gave a sequence: text, ``tokens`` that it took, ``logprobs`` if wanted."""

    id: str
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class Step(msgspec.Struct, frozen=True, tag="step"):
    """All text of one engine step, in one frame."""

    deltas: tuple[Delta, ...]


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """What the engine did since it was loaded. ``cached`` tokens of prompts needed no prefill;
    ``saved_bytes`` are in the RAM tier; ``own_seconds`` of its thread are not the model's."""

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

    ``queue_ms`` is arrival to slot, ``prefill_ms`` slot to first token, ``decode_ms`` first
    token to last. Of ``drafted`` tokens, guessed from the text so far, ``accepted`` were right.
    ``left_out`` messages did not fit the context.
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
    """The last frame of a request that ran; its last text came in a `Step` before."""

    id: str
    reason: FinishReason
    usage: Usage


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """The last frame of an `Embed`: vectors of ``size`` little-endian float32 each, L2
    normalised, one after another in the order of the inputs; ``tokens`` of all inputs."""

    id: str
    vectors: bytes
    size: int
    tokens: int


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """Tokens of a `Measure`: of the whole ``prompt`` (0 without messages), of its ``head`` (what
    the template and the administered messages begin it with), and of each text."""

    id: str
    prompt: int
    head: int
    texts: tuple[int, ...]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The last frame of a request that could not run or go on. Codes are those of
    `chatsite.errors` where one fits (``context_length_exceeded``), else ``engine_error``;
    ``request_refused`` when this model can't do what was asked.
    ``details`` holds figures for the message (``prompt_tokens``, ``context``)."""

    id: str
    code: str
    message: str
    details: dict[str, int] = {}


Answered = Finished | Embedded | Measured | Failed
ToHost = Loading | Loaded | LoadFailed | Started | Step | Stats | Answered
