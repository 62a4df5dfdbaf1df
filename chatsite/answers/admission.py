"""Admission: what a user's policy says of a request, applied before it is queued.

The only way from a request to the queue, for every door: `submit.enqueue` takes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from chatsite.answers.queue.request import QueuedRequest
from chatsite.engine.contract.messages import Embed
from chatsite.policy import decisions, quotas

# Tokens that a chat template may add: of each message, and once (system text, instructions for
# tools).
_FRAME: Final = 64
_HEAD: Final = 1024
# Bytes per token of common text are 2 to 5; a token is rarely shorter than one byte.
_LIKELY_BYTES: Final = 4


@dataclass(frozen=True)
class Admitted:
    """A request that its owner may make, within the owner's limits.

    ``open_requests`` is the owner's own limit of queued and running requests; None: the site's.
    """

    job: QueuedRequest
    weight: float = 1.0
    priority: int = 0
    open_requests: int | None = None


def admit(job: QueuedRequest, *, context: int) -> Admitted:
    """Apply the owner's rules, limits and quotas; ``context`` is the model's, in tokens.

    What the quotas reserve is settled when the generation ends; `withdraw` gives it back if the
    request is not queued. Reads and writes the database.

    Raises `NotAllowed`, `QuotaExceeded` or `QuotaReserved`.
    """
    owner = int(job.owner)
    decisions.require_model(owner, job.model)
    limits = decisions.limits(owner)
    longest = min(context, limits.longest_context or context)
    counted = quotas.apply_to(owner)
    if job.embed is not None:
        if counted:
            quotas.reserve(job.id, owner, _of_embedding(job.embed, context))
    else:
        params = job.params
        if limits.longest_answer is not None:
            answer = min(params.max_tokens or limits.longest_answer, limits.longest_answer)
            params = msgspec.structs.replace(params, max_tokens=answer)
        job = msgspec.structs.replace(job, params=params)
        budget = quotas.reserve(job.id, owner, _of_answer(job, longest)) if counted else None
        bound = longest if budget is None else min(longest, budget)
        if budget is not None or bound < context:
            options = msgspec.structs.replace(job.options, context=bound)
            job = msgspec.structs.replace(job, options=options)
    return Admitted(
        job,
        weight=limits.share_weight or 1.0,
        priority=limits.priority or 0,
        open_requests=limits.open_requests,
    )


def withdraw(generation: str) -> None:
    """Give back what was reserved for a generation that was not queued."""
    quotas.release(generation)


def _of_answer(job: QueuedRequest, context: int) -> quotas.Estimate:
    options = job.options
    size = sum(len(one.content.encode()) + len(one.reasoning.encode()) for one in job.messages)
    size += sum(
        len(call.arguments.encode()) + len(call.name) for m in job.messages for call in m.tool_calls
    )
    size += len(options.suffix.encode()) + len(job.resume_text.encode())
    least = size // _LIKELY_BYTES
    if isinstance(options.raw, str):
        size += len(options.raw.encode())
        least += len(options.raw.encode()) // _LIKELY_BYTES
    elif options.raw is not None:
        count = sum(1 if isinstance(one, int) else len(one.encode()) for one in options.raw)
        size, least = size + count, least + count // _LIKELY_BYTES
    tools = len(msgspec.json.encode(options.tools)) if options.tools else 0
    prompt = size + _FRAME * len(job.messages) + 2 * tools + _HEAD
    most = min(context, prompt + (job.params.max_tokens or context))
    return quotas.Estimate(most, min(most, least + 1))


def _of_embedding(embed: Embed, context: int) -> quotas.Estimate:
    """Return the estimate of an embedding request, which can't be cut to a budget."""
    asked = len((embed.query or "").encode())
    tokens = sum(
        min(context, (len(one.encode()) if isinstance(one, str) else len(one)) + asked + _FRAME)
        for one in embed.inputs
    )
    return quotas.Estimate(tokens, tokens, divisible=False)
