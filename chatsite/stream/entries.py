"""Entries of a generation's stream in Redis, under `redis_keys.stream_key`.

Each entry has one field ``e``: the MessagePack of an `Entry`. Its Redis ID is
``<attempt>-<seq>``: the fence of an attempt has seq 0; text and the end are numbered from 1
without gaps *across all attempts*, so ``seq`` alone is a reader's cursor. Redis refuses an ID
that is not above the last one, and thereby duplicate writes and writers of older attempts.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from chatsite.engine.contract.messages import PLAIN, OutputSyntax, TokenLogprob

EndState = Literal["done", "failed", "cancelled", "interrupted"]


class Fence(msgspec.Struct, frozen=True, tag="f"):
    """First entry of an attempt: writers of earlier attempts are refused from now on.

    ``syntax`` is how this attempt's model marks reasoning and tool calls.
    """

    syntax: OutputSyntax = PLAIN


class Text(msgspec.Struct, frozen=True, tag="t"):
    """A piece of the answer.

    ``tokens`` is its length, so that a later attempt respects ``max_tokens``. ``reasoning_ms`` is
    the duration of the reasoning, in the entry that ends it. ``prompt`` is the number of prompt
    tokens and of cached ones, sent once if the request asks for it.
    """

    text: str
    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning_ms: float | None = None
    prompt: tuple[int, int] | None = None


class Vectors(msgspec.Struct, frozen=True, tag="v"):
    """The result of an embedding request, as in `engine.contract.messages.Embedded`."""

    vectors: bytes
    size: int
    tokens: int


class End(msgspec.Struct, frozen=True, tag="e"):
    """Last entry, written after SQL has the same. ``error`` is `ChatsiteError.as_dict`."""

    state: EndState
    finish_reason: str = ""
    error: dict[str, Any] | None = None
    usage: dict[str, int] = {}
    timings: dict[str, float] = {}


Entry = Fence | Text | Vectors | End
