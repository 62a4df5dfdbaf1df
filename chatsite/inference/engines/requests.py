"""Queued requests as a remote engine gets them, and its errors as users get them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from django.conf import settings

from chatsite.engine.contract import messages as m
from chatsite.errors import ContextOverflow, RequestRefused
from chatsite.inference.remote import refusals
from chatsite.inference.remote.contract import (
    Refused,
    RemoteError,
    RemoteModel,
    RemoteRequest,
    TooLong,
    needed,
)

# Bytes per token where the engine can't count; too few tokens are better than a refused prompt.
_BYTES_PER_TOKEN: Final = 3
_FRAME: Final = 8
_LEAST_ANSWER: Final = 256


class CantServe(Exception):
    """The engine can't serve this request; ``failed`` is the end of the answer."""

    def __init__(self, failed: m.Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


def salt_of(owner: str) -> str:
    """Return an opaque text that is stable and different for each owner."""
    key = f"chatsite.inference.engines {settings.SECRET_KEY}".encode()
    return hmac.new(key, owner.encode(), hashlib.sha256).hexdigest()[:32]


def check(run_id: str, request: RemoteRequest) -> None:
    """Raise `CantServe` if the engine's model lacks a capability that the request needs."""
    missing = needed(request) - request.model.capabilities
    if missing:
        raise CantServe(refused(run_id, refusals.lacking(missing)))
    if request.options.template:
        raise CantServe(refused(run_id, refusals.NO_TEMPLATE))


def refused(run_id: str, reason: str) -> m.Failed:
    return m.Failed(run_id, RequestRefused.code, reason)


def ended(run_id: str, error: RemoteError) -> m.Failed | None:
    """Return the end of an answer that no retry can save; None for other errors."""
    if isinstance(error, TooLong):
        figures = {"prompt_tokens": error.prompt_tokens, "context": error.context}
        known = figures if all(figures.values()) else {}
        text = str(ContextOverflow(None, **known))
        return m.Failed(run_id, ContextOverflow.code, text, known)
    if isinstance(error, Refused) and error.by_request:
        return refused(run_id, error.message[:500])
    return None if error.retry else refused(run_id, str(error)[:500])


@dataclass(frozen=True)
class Fitted:
    """Messages that fit; ``left_out`` of the oldest ones do not."""

    messages: tuple[m.ChatMessage, ...]
    left_out: int = 0


def estimate(messages: Sequence[m.ChatMessage]) -> int:
    """Return a high estimate of the tokens of messages."""
    return sum(
        _FRAME + -(-len(f"{one.content}{one.reasoning}".encode()) // _BYTES_PER_TOKEN)
        for one in messages
    )


def fit(
    messages: tuple[m.ChatMessage, ...], administered: int, counted: int, context: int
) -> Fitted:
    """Leave out the oldest messages, in whole turns, until the prompt fits ``context`` tokens.

    ``counted`` are the tokens of all messages. Those of the administrator, other system messages at
    the start and the last user message stay. Some room is left for the answer.
    """
    room = context - min(_LEAST_ANSWER, context // 4)
    head = administered
    while head < len(messages) and messages[head].role == "system":
        head += 1
    start = head
    # The share of the engine's count that the estimate gives each message.
    scale = counted / max(1, estimate(messages))
    while counted > room and start < len(messages) - 1:
        following = next(
            (at for at in range(start + 1, len(messages)) if messages[at].role == "user"), None
        )
        if following is None:
            break
        counted -= round(scale * estimate(messages[start:following]))
        start = following
    return Fitted((*messages[:head], *messages[start:]), start - head)


def with_room(params: m.SamplingParams, room: int | None) -> m.SamplingParams:
    """Return the parameters with an answer of at most ``room`` tokens; None does not bound it."""
    if room is None:
        return params
    longest = room if params.max_tokens is None else min(params.max_tokens, room)
    return msgspec.structs.replace(params, max_tokens=max(1, longest))


def usable_context(model: RemoteModel, options: m.PromptOptions) -> int | None:
    """Return the most tokens of prompt and answer together; None if unknown and not bounded."""
    bounds = [bound for bound in (model.context_length, options.context) if bound]
    return min(bounds, default=None)
