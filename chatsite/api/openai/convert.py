"""Converts requests of OpenAI's API to the engine's types."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.api.core import foreign
from chatsite.api.core.http import BadField, bad_field
from chatsite.api.openai import types as t
from chatsite.engine.contract.messages import (
    ChatMessage,
    PromptOptions,
    Role,
    SamplingParams,
    Tool,
    ToolCall,
)
from chatsite.numbers import natural
from models_admin.config.options import SEEDS

_TOKEN_MAX = 2**31 - 1
# Fields that `Sampled` and `SamplingParams` have under the same name.
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
    "stop_repetition",
)
_CHOICES = {"": "auto", "auto": "auto", "none": "none", "required": "required", "any": "required"}
_EFFORTS = {"minimal", "low", "medium", "high", "xhigh", "max", "ultra"}
_NO_EFFORTS = {"none", "off", "disabled"}
_OWN_EFFORTS = {"", "auto", "default"}


def sampling(
    request: t.Sampled, *constraints: tuple[str, dict[str, Any]], **more: Any
) -> SamplingParams:
    """Return the sampling parameters of a request.

    ``more`` are fields of `SamplingParams` that the endpoint names differently; ``constraints`` are
    as in `foreign.constraint`. Raises `BadField`.
    """
    foreign.refuse(request)
    values = {name: value for name in _SAME if (value := getattr(request, name)) is not None}
    if request.n_predict is not None:
        values.setdefault("max_tokens", request.n_predict)
    if request.repetition_penalty is not None:
        values.setdefault("repeat_penalty", request.repetition_penalty)
    if request.top_k is not None:
        # In vLLM -1 means no limit, elsewhere 0 does.
        values["top_k"] = max(0, request.top_k)
    if request.stop is not None:
        stops = [request.stop] if isinstance(request.stop, str) else request.stop
        values["stop"] = [stop for stop in stops if stop]
    if request.stop_token_ids:
        values["stop_tokens"] = request.stop_token_ids
    if values.get("max_tokens") == -1:
        del values["max_tokens"]
    if values.get("top_p") == 0:
        # 0 means only the most likely token; so does the smallest accepted value.
        values["top_p"] = 1e-9
    if request.seed is not None and request.seed >= 0:
        values["seed"] = request.seed % SEEDS
    if request.logit_bias:
        values["logit_bias"] = _bias(request.logit_bias)
    values |= {name: value for name, value in more.items() if value is not None}
    values |= foreign.constraint(request, *constraints)
    try:
        return msgspec.convert(values, SamplingParams)
    except msgspec.ValidationError as error:
        raise bad_field(error) from None


def choices(params: SamplingParams, n: int | None) -> list[SamplingParams]:
    """Return ``n`` copies with consecutive seeds, beginning with the given or a random one."""
    if n is None or n == 1:
        return [params]
    seed = params.seed if params.seed is not None else secrets.randbelow(SEEDS)
    return [msgspec.structs.replace(params, seed=(seed + i) % SEEDS) for i in range(n)]


def _bias(biases: dict[str, float | str | bool] | list[list[Any]]) -> list[tuple[int, float]]:
    """Return pairs of token and bias.

    They come from OpenAI's object or from llama-server's list of pairs, in which false bans a
    token. Raises `BadField`.
    """
    pairs: Any = biases.items() if isinstance(biases, dict) else biases
    found: list[tuple[int, float]] = []
    try:
        for named, bias in pairs:
            token = natural(named, _TOKEN_MAX) if isinstance(named, str) else int(named)
            found.append((-1 if token is None else token, -100.0 if bias is False else float(bias)))
    except (TypeError, ValueError, OverflowError):
        found = [(-1, 0.0)]
    if not all(0 <= token <= _TOKEN_MAX and -100 <= bias <= 100 for token, bias in found):
        raise BadField(
            _("logit_bias: must map token ids to a bias from -100 to 100."), param="logit_bias"
        )
    return found


def chat_params(request: t.ChatRequest) -> SamplingParams:
    if request.top_logprobs is not None and not request.logprobs:
        raise BadField(_("top_logprobs: requires logprobs to be true."), param="top_logprobs")
    return sampling(
        request,
        *format_constraint(request.response_format),
        max_tokens=request.max_completion_tokens,
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def format_constraint(wanted: t.ResponseFormat | None) -> list[tuple[str, dict[str, Any]]]:
    """Return the constraint of ``response_format``; empty for free text. Raises `BadField`."""
    if wanted is None or wanted.type == "text":
        return []
    name = "response_format"
    if wanted.type in {"regex", "grammar"}:
        if not isinstance(wanted.value, str):
            raise BadField(
                _("response_format: %(type)s requires a value.") % {"type": wanted.type},
                param="response_format.value",
            )
        make = foreign.regex if wanted.type == "regex" else foreign.gbnf
        return [(name, make(wanted.value, "response_format.value"))]
    given: Any = wanted.json_schema.schema if wanted.json_schema else wanted.schema
    if given is None and wanted.value is not None:
        given = foreign.schema(wanted.value, "response_format.value")["json_schema"]
    if wanted.type == "json_schema" and given is None:
        raise BadField(
            _("response_format: json_schema requires a schema."),
            param="response_format.json_schema.schema",
        )
    return [(name, {"json_schema": given or {"type": "object"}})]


def chat_options(request: t.ChatRequest) -> PromptOptions:
    if request.functions:
        raise BadField(_("functions: not supported. Use tools."), param="functions")
    given = request.chat_template_kwargs or t.TemplateOptions()
    think = given.thinking if given.enable_thinking is None else given.enable_thinking
    stated = effort(request.reasoning_effort or given.reasoning_effort, "reasoning_effort")
    return msgspec.structs.replace(
        options(tools(request.tools or ()), request.tool_choice, think, effort=stated),
        continue_final=_continues(request),
    )


def effort(said: str | None, param: str) -> str | None:
    """Return a normalized effort; None, as for "auto", if the model decides. Raises `BadField`."""
    word = (said or "").strip().lower()
    if word in _OWN_EFFORTS:
        return None
    if word in _NO_EFFORTS:
        return "none"
    if word in _EFFORTS:
        return word
    raise BadField(
        _("%(name)s: use one of none, minimal, low, medium, high, xhigh, max.") % {"name": param},
        param=param,
    )


def _continues(request: t.ChatRequest) -> bool:
    """Return whether the last message is the beginning of the answer. Raises `BadField`.

    OpenAI has no such feature, so a request must ask for it.
    """
    last = request.messages[-1]
    asked = request.continue_final_message is True
    if asked and request.add_generation_prompt is True:
        raise BadField(
            _("continue_final_message and add_generation_prompt can't both be true."),
            param="continue_final_message",
        )
    if request.add_generation_prompt is False and not asked:
        raise BadField(
            _("add_generation_prompt can only be false if continue_final_message is true."),
            param="add_generation_prompt",
        )
    for index, message in enumerate(request.messages):
        if message.prefix and (message is not last or message.role != "assistant"):
            raise BadField(
                _("prefix: only the last message can be continued, if it is an assistant message."),
                param=f"messages[{index}].prefix",
            )
    if not asked and not last.prefix:
        return False
    if last.role != "assistant" or last.tool_calls:
        raise BadField(
            _("continue_final_message: the last message must be the text of an assistant."),
            param="messages",
        )
    return True


def tools(specs: Sequence[t.ToolSpec]) -> tuple[Tool, ...]:
    return tuple(
        Tool(s.function.name, s.function.description or "", s.function.parameters or {})
        for s in specs
    )


def with_progress(request: t.Sampled, options: PromptOptions) -> PromptOptions:
    """Return ``options`` with what `progress.Progress` needs, if the request asks for progress."""
    wanted = bool(request.return_progress or request.timings_per_token)
    return msgspec.structs.replace(options, progress=True) if wanted else options


def options(
    tools: tuple[Tool, ...],
    choice: str | t.ToolChoice | None,
    think: bool | None = None,
    *,
    effort: str | None = None,
) -> PromptOptions:
    """Return the prompt options of a request.

    ``effort`` is OpenAI's reasoning effort; ``none`` switches reasoning off.
    """
    if effort is not None:
        think = effort != "none"
    allowed, chosen = choose(tools, choice)
    return PromptOptions(
        tools=allowed,
        tool_choice=chosen,
        think=think,
        effort=effort if effort and effort != "none" else "",
    )


def choose(
    tools: tuple[Tool, ...], choice: str | t.ToolChoice | None
) -> tuple[tuple[Tool, ...], str]:
    """Resolve every form of ``tool_choice``. Raises `BadField`.

    The forms are words, a named tool as in chat, Responses or Anthropic's API, and OpenAI's allowed
    tools. Returns the tools that may be called and the choice for `PromptOptions`.
    """
    if isinstance(choice, t.ToolChoice):
        if choice.type == "allowed_tools":
            return _allowed(tools, choice)
        if choice.type in {"function", "tool"}:
            name = choice.function.name if choice.function else choice.name
            return tools, _known(tools, name)
        choice = choice.type or "?"
    word = _CHOICES.get(choice or "") or _known(tools, choice)
    if word == "required" and not tools:
        raise _no_such_tool()
    return tools, word


def _allowed(tools: tuple[Tool, ...], choice: t.ToolChoice) -> tuple[tuple[Tool, ...], str]:
    said = choice.allowed_tools or t.AllowedTools(choice.tools or [], choice.mode or "auto")
    names = {one.function.name if one.function else one.name for one in said.tools}
    for name in names:
        _known(tools, name)
    mode = _CHOICES.get(said.mode)
    if not names or mode not in {"auto", "required"}:
        raise BadField(
            _("tool_choice: allowed_tools needs tools, and the mode auto or required."),
            param="tool_choice",
        )
    return tuple(tool for tool in tools if tool.name in names), mode


def _known(tools: tuple[Tool, ...], name: str | None) -> str:
    if name is None or name not in {tool.name for tool in tools}:
        raise _no_such_tool()
    return name


def _no_such_tool() -> BadField:
    return BadField(
        _("tool_choice: must be none, auto, required, or the name of a tool."),
        param="tool_choice",
    )


def messages(sent: Sequence[t.MessageIn]) -> tuple[ChatMessage, ...]:
    names: dict[str, str] = {}
    found = []
    for index, message in enumerate(sent):
        # Chat templates know no developer role; it is OpenAI's newer name for system.
        role: Role = "system" if message.role == "developer" else message.role
        calls = tuple(
            ToolCall(call.id or "", call.function.name, arguments(call.function.arguments))
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


def arguments(sent: Any) -> str:
    """Return a call's arguments as JSON text; some clients send the value itself."""
    if isinstance(sent, str):
        return sent or "{}"
    return "{}" if sent is None else msgspec.json.encode(sent).decode()


def prompts(sent: t.Prompts, param: str) -> list[str | tuple[int | str, ...]]:
    """Return one entry per prompt: its text, or its tokens, which may be mixed with texts.

    A list that contains a number is one prompt. Raises `BadField`.
    """
    if not isinstance(sent, list):
        return [_prompt(sent, param)]
    if any(isinstance(one, int) for one in sent):
        return [_tokens([_part(one, param) for one in sent], param)]
    if not sent:
        raise BadField(_("%(name)s: must not be empty.") % {"name": param}, param=param)
    return [_prompt(one, param) for one in sent]


def _prompt(
    one: str | int | t.PromptText | list[int | str], param: str
) -> str | tuple[int | str, ...]:
    if isinstance(one, list):
        return _tokens(one, param)
    part = _part(one, param)
    return part if isinstance(part, str) else (part,)


def _part(one: str | int | t.PromptText | list[int | str], param: str) -> str | int:
    if isinstance(one, t.PromptText):
        one = [text for text in (one.prompt_string, one.content) if text is not None]
        if one:
            return str(one[0])
    if isinstance(one, list):
        raise BadField(_("%(name)s: must be texts or tokens.") % {"name": param}, param=param)
    return one


def _tokens(sent: Sequence[int | str], param: str) -> tuple[int | str, ...]:
    if not sent or any(isinstance(one, int) and not 0 <= one < 2**31 for one in sent):
        raise BadField(
            _("%(name)s: token ids must be integers in the range 0 to 2^31-1.") % {"name": param},
            param=param,
        )
    return tuple(sent)


def text_of(content: str | list[t.Part] | None, param: str) -> str:
    """Return the text of a message. Raises `BadField` for a part that is not text.

    Parts are joined by line breaks so that their words don't run together.
    """
    if content is None or isinstance(content, str):
        return content or ""
    for index, part in enumerate(content):
        if part.text is None and part.refusal is None:
            raise BadField(
                _("Only text input is supported. Remove image, audio and file parts."),
                param=f"{param}[{index}].type",
            )
    return "\n".join(filter(None, (part.text or part.refusal for part in content)))
