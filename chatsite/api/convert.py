"""From what a program sends to what the engine takes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.api import types as t
from chatsite.api.http import BadField, bad_field
from chatsite.engine.messages import (
    ChatMessage,
    PromptOptions,
    Role,
    SamplingParams,
    Tool,
    ToolCall,
)

_SEEDS = 2**32 - 1
# Fields of `Sampled` that `SamplingParams` has under the same name.
_SAME = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "ignore_eos",
    "min_tokens",
    "max_tokens",
    "grammar",
    "json_schema",
)


def sampling(request: t.Sampled, **more: Any) -> SamplingParams:
    """``more`` are fields of `SamplingParams` that the endpoint spells in its own way."""
    values = {name: value for name in _SAME if (value := getattr(request, name)) is not None}
    if request.repetition_penalty is not None:
        values.setdefault("repeat_penalty", request.repetition_penalty)
    if request.top_k is not None:
        # vLLM writes -1 for what is 0 elsewhere: no limit.
        values["top_k"] = max(0, request.top_k)
    if request.stop is not None:
        stops = [request.stop] if isinstance(request.stop, str) else request.stop
        values["stop"] = [stop for stop in stops if stop]
    if values.get("max_tokens") == -1:
        del values["max_tokens"]
    if values.get("top_p") == 0:
        # The likeliest token alone, as with the smallest number above it.
        values["top_p"] = 1e-9
    if request.seed is not None and request.seed >= 0:
        values["seed"] = request.seed % _SEEDS
    if request.logit_bias:
        values["logit_bias"] = _bias(request.logit_bias)
    values |= {name: value for name, value in more.items() if value is not None}
    try:
        return msgspec.convert(values, SamplingParams)
    except msgspec.ValidationError as error:
        raise bad_field(error) from None


def choices(params: SamplingParams, n: int | None) -> list[SamplingParams]:
    """``n`` times the same, each with a seed of its own: the first has the one that was given."""
    if n is None or n == 1:
        return [params]
    seed = params.seed if params.seed is not None else secrets.randbelow(_SEEDS)
    return [msgspec.structs.replace(params, seed=(seed + i) % _SEEDS) for i in range(n)]


def _bias(biases: dict[str, float]) -> list[tuple[int, float]]:
    if not all(token.isdecimal() for token in biases):
        raise BadField(
            _("logit_bias: its keys are numbers of tokens, written as strings."), param="logit_bias"
        )
    return [(int(token), bias) for token, bias in biases.items()]


def chat_params(request: t.ChatRequest) -> SamplingParams:
    if request.top_logprobs is not None and not request.logprobs:
        raise BadField(_("top_logprobs: it needs logprobs to be true."), param="top_logprobs")
    schema = request.json_schema
    if request.response_format is not None:
        schema = format_schema(request.response_format)
    return sampling(
        request,
        max_tokens=request.max_completion_tokens,
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        json_schema=schema,
    )


def format_schema(wanted: t.ResponseFormat) -> dict[str, Any] | None:
    """The JSON schema that an answer must keep to; None for free text."""
    if wanted.type == "text":
        return None
    given = wanted.json_schema.schema if wanted.json_schema else wanted.schema
    if wanted.type == "json_schema" and given is None:
        raise BadField(
            _("response_format: json_schema needs a schema."),
            param="response_format.json_schema.schema",
        )
    return given or {"type": "object"}


def chat_options(request: t.ChatRequest) -> PromptOptions:
    if request.functions:
        raise BadField(_("functions: send them as tools."), param="functions")
    template = request.chat_template_kwargs
    think = template.enable_thinking if template else None
    if request.reasoning_effort is not None:
        think = request.reasoning_effort != "none"
    choice = request.tool_choice
    name = choice.function.name if isinstance(choice, t.NamedTool) else choice
    return options(tools(request.tools or ()), name, think)


def tools(specs: Sequence[t.ToolSpec]) -> tuple[Tool, ...]:
    return tuple(
        Tool(s.function.name, s.function.description or "", s.function.parameters or {})
        for s in specs
    )


def options(tools: tuple[Tool, ...], choice: str | None, think: bool | None) -> PromptOptions:
    named = choice not in {None, "auto", "none", "required"}
    if (named and choice not in {tool.name for tool in tools}) or (
        choice == "required" and not tools
    ):
        raise BadField(_("tool_choice: it names none of the tools."), param="tool_choice")
    return PromptOptions(tools=tools, tool_choice=choice or "auto", think=think)


def messages(sent: Sequence[t.MessageIn]) -> tuple[ChatMessage, ...]:
    names: dict[str, str] = {}
    found = []
    for index, message in enumerate(sent):
        # Models know no developer; it is what OpenAI calls a system message now.
        role: Role = "system" if message.role == "developer" else message.role
        calls = tuple(
            ToolCall(call.id or "", call.function.name, call.function.arguments or "{}")
            for call in message.tool_calls or ()
        )
        names |= {call.id: call.name for call in calls}
        answered = message.tool_call_id or ""
        found.append(
            ChatMessage(
                role,
                text_of(message.content, f"messages[{index}].content"),
                reasoning=message.reasoning_content or message.reasoning or "",
                tool_calls=calls,
                tool_call_id=answered,
                tool_name=names.get(answered, message.name or "") if role == "tool" else "",
            )
        )
    return tuple(found)


def text_of(content: str | list[t.Part] | None, param: str) -> str:
    """The text of a message. Raises `BadField` for what is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    for index, part in enumerate(content):
        if part.text is None and part.refusal is None:
            raise BadField(
                _("The models here read text only. Leave images, sounds and files out."),
                param=f"{param}[{index}].type",
            )
    return "".join(part.text or part.refusal or "" for part in content)
