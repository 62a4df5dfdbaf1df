"""Entries of a generation's stream in Redis, key ``gen:<generation id>``.

Each entry has one field ``e``: the MessagePack of an `Entry`. Its Redis ID is
``<attempt>-<seq>``: the fence of an attempt has seq 0; text and the end are numbered from 1
without gaps *through all attempts*, so ``seq`` alone is a reader's cursor. Redis refuses an ID
that is not above the last one, which refuses retried writes and writers of older attempts.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from chatsite.engine.messages import PLAIN, OutputSyntax, TokenLogprob

EndState = Literal["done", "failed", "cancelled", "interrupted"]


class Fence(msgspec.Struct, frozen=True, tag="f"):
    """First entry of an attempt: whoever wrote under an earlier one is now refused. ``syntax``
    is how the model that writes now marks reasoning and tool calls."""

    syntax: OutputSyntax = PLAIN


class Text(msgspec.Struct, frozen=True, tag="t"):
    """``tokens`` that the text took, so that a later attempt keeps to ``max_tokens``.
    ``reasoning_ms`` is how long the answer's reasoning took, in the entry that ends it."""

    text: str
    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning_ms: float | None = None


class Vectors(msgspec.Struct, frozen=True, tag="v"):
    """The result of an embedding request, as in `engine.messages.Embedded`."""

    vectors: bytes
    size: int
    tokens: int


class End(msgspec.Struct, frozen=True, tag="e"):
    """Last entry, written after SQL holds the same. ``error`` is `ChatsiteError.as_dict`."""

    state: EndState
    finish_reason: str = ""
    error: dict[str, Any] | None = None
    usage: dict[str, int] = {}
    timings: dict[str, float] = {}


Entry = Fence | Text | Vectors | End
