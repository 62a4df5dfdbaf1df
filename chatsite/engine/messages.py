"""Every frame on the pipe between the inference host and an engine child.

Frames are MessagePack, each preceded by its length (4 bytes, little endian; see `frames.py`).
The host writes `ToChild`, the child writes `ToHost`. Structs are frozen: a frame is a fact.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled"]


class ChatMessage(msgspec.Struct, frozen=True):
    role: Role
    content: str


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampling of one sequence; ranges are checked when a frame or request is decoded.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and penalties of
    1 (repeat) or 0 (presence, frequency) switch the stage off. ``repeat_last_n`` is in
    tokens, -1 for the whole context. ``seed`` None draws one. ``max_tokens`` None means
    up to the end of the context.
    """

    temperature: Annotated[float, Meta(ge=0, le=5)] = 0.6
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] = 40
    top_p: Annotated[float, Meta(gt=0, le=1)] = 0.9
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.05
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


class Tuning(msgspec.Struct, frozen=True):
    """What autotune chose for (model digest, host); see `autotune.py` for how."""

    use_extra_bufts: bool
    flash_attention: bool
    threads: Annotated[int, Meta(ge=1, le=1024)]
    ubatch: Annotated[int, Meta(ge=16, le=8192)] = 512


# Host to child.


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first frame. ``context`` is in tokens per slot, capped by what the model was
    trained on; ``step_target_ms`` bounds one engine step."""

    name: str
    path: str
    tuning: Tuning
    context: Annotated[int, Meta(ge=64)]
    slots: Annotated[int, Meta(ge=1, le=256)]
    step_target_ms: Annotated[float, Meta(gt=0)]


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


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    id: str


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    pass


ToChild = Load | Generate | Cancel | Shutdown


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


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    code: str
    message: str


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The prompt has a slot. ``cached_tokens`` of ``prompt_tokens`` need no prefill."""

    id: str
    prompt_tokens: int
    cached_tokens: int


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """Text that one step added to one sequence; ``tokens`` that it took."""

    id: str
    text: str
    tokens: int


class Step(msgspec.Struct, frozen=True, tag="step"):
    """All text of one engine step, in one frame."""

    deltas: tuple[Delta, ...]


class Usage(msgspec.Struct, frozen=True):
    """Tokens and milliseconds of one generation inside the child.

    ``queue_ms`` is arrival to slot, ``prefill_ms`` slot to first token, ``decode_ms`` first
    token to last.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_ms: float
    prefill_ms: float
    decode_ms: float


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last frame of a request that ran; its last text came in a `Step` before."""

    id: str
    reason: FinishReason
    usage: Usage


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The last frame of a request that could not run or go on. Codes are those of
    `chatsite.errors` where one fits (``context_length_exceeded``), else ``engine_error``.
    ``details`` holds figures for the message (``prompt_tokens``, ``context``)."""

    id: str
    code: str
    message: str
    details: dict[str, int] = {}


ToHost = Loading | Loaded | LoadFailed | Started | Step | Finished | Failed
