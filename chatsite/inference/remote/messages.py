"""Requests in the form of OpenAI, which vLLM and llama-server extend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec

from chatsite.engine.contract.messages import ChatMessage, PromptOptions, SamplingParams
from chatsite.inference.remote import refusals
from chatsite.inference.remote.canonical import read
from chatsite.inference.remote.contract import (
    CannotContinue,
    Capability,
    Finish,
    Piece,
    RemoteRequest,
    TooLong,
    Unsupported,
    needed,
)

# Of the text of a conversation that is too long; the rest makes place for the answer.
_KEPT_SHARE: Final = 0.8
# Attempts to shorten a conversation before it is refused.
_SHORTENED_MOST: Final = 8
_DEFAULTS: Final = SamplingParams()
# Parameters without which an answer is not what was requested. Others narrow the vocabulary or
# discourage repetition, and are left out where an engine does not know them.
_REQUIRED: Final = ("stop_tokens", "ignore_eos", "min_tokens", "logit_bias")


def refuse_unsupported(
    request: RemoteRequest, known: frozenset[str], *, stops: int | None = None
) -> None:
    """Raise `Unsupported` if the engine can't do what is requested.

    ``known`` are those of `_REQUIRED` that it takes, ``stops`` how many stop sequences.
    """
    missing = needed(request) - request.model.capabilities
    if missing == {Capability.CONTINUATION} and request.resume_text:
        raise CannotContinue("the engine does not continue answers")
    if missing:
        raise Unsupported(refusals.lacking(missing))
    options, params = request.options, request.params
    for name in _REQUIRED:
        if name not in known and getattr(params, name) != getattr(_DEFAULTS, name):
            raise Unsupported(refusals.PARAMETERS[name])
    if stops is not None and len(params.stop) > stops:
        raise Unsupported(refusals.TOO_MANY_STOPS)
    unsupported = {"suffix": options.suffix, "echo": options.echo, "template": options.template}
    for name, value in unsupported.items():
        if value:
            raise Unsupported(refusals.PARAMETERS[name])
    if request.resume_text and not request.restart and not can_continue(request):
        raise CannotContinue("the text so far can't be continued")


def can_continue(request: RemoteRequest) -> bool:
    """Return whether the engine can continue ``request.resume_text``.

    A text without templates always can. An answer can where it ends in content: engines differ in
    how they take reasoning that is not closed, and constraints and calls would start again.
    """
    if request.options.raw is not None:
        return True
    if Capability.CONTINUATION not in request.model.capabilities:
        return False
    if request.params.json_schema is not None or request.params.grammar:
        return False
    parts = read(request.resume_text)
    return bool(parts.content.strip()) and not parts.calls and not parts.open_reasoning


def can_restart(request: RemoteRequest) -> bool:
    """Return whether a new answer may be written behind ``request.resume_text``.

    Not where both together would violate what was requested.
    """
    constrained = request.params.json_schema is not None or bool(request.params.grammar)
    return not request.resume_text or not (constrained or request.options.raw is not None)


def tokens_left(request: RemoteRequest) -> int | None:
    """Return what is left of ``max_tokens``; None if there is no limit."""
    most = request.params.max_tokens
    if most is None:
        return None
    return max(most - (0 if request.restart else request.generated), 0)


async def generate(
    request: RemoteRequest,
    attempt: Callable[[RemoteRequest, int | None, int], AsyncGenerator[Piece | Finish]],
    *,
    limit_counts: bool,
) -> AsyncGenerator[Piece | Finish]:
    """Yield the answer, shortening a conversation that is too long if its owner chose so.

    ``attempt`` requests an answer for a request, its limit of tokens and the number of messages
    left out. It may raise `TooLong` before its first item only. ``limit_counts``: the engine
    refuses a prompt that exceeds the context together with the limit of the answer. The context is
    the limit then, unless the request has its own.
    """
    left_out = rounds = 0
    limit = tokens_left(request)
    if limit == 0:
        yield Finish("length", 0, None, 0)
        return
    while True:
        try:
            async with aclosing(attempt(request, limit, left_out)) as items:
                async for item in items:
                    yield item
            return
        except TooLong as error:
            if limit_counts and limit is not None and not request.options.context:
                limit = None
                continue
            shorter = shortened(request, error)
            rounds += 1
            if shorter is None or rounds > _SHORTENED_MOST:
                raise
            request, left_out = shorter[0], left_out + shorter[1]
            limit = tokens_left(request)


def split_owed(text: str) -> tuple[str, str]:
    """Split text to be continued into what is sent, and the whitespace behind it.

    Templates strip it, and models seldom continue well behind a space.
    """
    sent = text.rstrip()
    return sent, text[len(sent) :]


def conversation(request: RemoteRequest) -> tuple[ChatMessage, ...]:
    """Return the messages, of which the last is the beginning of the answer if it is continued."""
    messages = request.messages
    if not request.resume_text or request.restart:
        return messages
    parts = read(request.resume_text)
    begun = messages[-1].content if request.options.continue_final and messages else ""
    if request.options.continue_final:
        messages = messages[:-1]
    content, _owed = split_owed(begun + parts.content)
    return (*messages, ChatMessage("assistant", content, parts.reasoning))


def continues(request: RemoteRequest) -> bool:
    return request.options.continue_final or bool(request.resume_text and not request.restart)


def message_objects(
    messages: Sequence[ChatMessage], *, reasoning: str = ""
) -> list[dict[str, Any]]:
    """Return messages in OpenAI's form; ``reasoning`` is the field for it, empty for none."""
    return [_message_object(one, reasoning) for one in messages]


def _message_object(message: ChatMessage, reasoning: str) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning and reasoning:
        found[reasoning] = message.reasoning
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        found["tool_call_id"] = message.tool_call_id
        if message.tool_name:
            found["name"] = message.tool_name
    return found


def tool_objects(options: PromptOptions) -> list[dict[str, Any]]:
    """Return the tools in OpenAI's form; none if the model must not call any."""
    if options.tool_choice == "none":
        return []
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in options.tools
    ]


def tool_choice(options: PromptOptions) -> Any:
    if options.tool_choice in {"auto", "required"}:
        return options.tool_choice
    return {"type": "function", "function": {"name": options.tool_choice}}


def shortened(request: RemoteRequest, error: TooLong) -> tuple[RemoteRequest, int] | None:
    """Leave out the oldest messages of a request that was too long, if its owner chose so.

    Administered and system messages, and all from the last question on, stay. Return the request
    and the number of messages left out; None if none may be.
    """
    if request.options.overflow != "keep_latest" or request.options.raw is not None:
        return None
    part = _KEPT_SHARE
    if error.prompt_tokens > error.context > 0:
        part *= error.context / error.prompt_tokens
    found = request.messages
    fixed = request.options.administered
    while fixed < len(found) and found[fixed].role == "system":
        fixed += 1
    questions = [at for at in range(fixed, len(found)) if found[at].role == "user"]
    excess = sum(len(one.content) for one in found) * (1 - part)
    for begin in questions[1:]:
        left = sum(len(one.content) for one in found[fixed:begin])
        if left >= excess or begin == questions[-1]:
            kept = (*found[:fixed], *found[begin:])
            return msgspec.structs.replace(request, messages=kept), begin - fixed
    return None
