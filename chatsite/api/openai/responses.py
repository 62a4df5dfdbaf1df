"""`/v1/responses`, stateless: each request carries its whole conversation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http
from chatsite.api.core.documents import Citation, with_documents
from chatsite.api.core.fan_out import Answers, GenerationRequest, ask_all
from chatsite.api.core.http import BadField
from chatsite.api.core.parts import PartReader, called
from chatsite.api.core.requests import Answer, TextChunk
from chatsite.api.core.streaming import ResponseEncoder, stream
from chatsite.api.openai import convert
from chatsite.api.openai import responses_types as r
from chatsite.api.openai import types as t
from chatsite.api.openai.response_events import Writer
from chatsite.engine.contract.messages import (
    ChatMessage,
    PromptOptions,
    SamplingParams,
    Tool,
    ToolCall,
)
from chatsite.errors import ChatsiteError
from chatsite.stream.entries import End

_decoder = msgspec.json.Decoder(r.ResponseRequest)


@http.endpoint("chat", "POST")
async def responses(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    asked = wanted_of(body)
    messages, citations = await with_documents(caller, body.model, asked.messages, body.collections)
    wanted = [replace(asked, messages=messages)]
    if body.stream:
        return await stream(caller, wanted, partial(Events, body, citations=citations))
    async with ask_all(runtime(), caller, wanted) as answers:
        events = Events(body, answers, citations)
        async for index, event in answers.events():
            if isinstance(event, TextChunk):
                events.piece(index, event)
            elif isinstance(event, End):
                events.end(index, event)
        return http.answer(events.response, answers.position)


class Events(ResponseEncoder):
    def __init__(
        self, body: r.ResponseRequest, answers: Answers, citations: list[Citation] | None = None
    ) -> None:
        opening = _opening(body, answers.first)
        if citations is not None:
            opening = msgspec.structs.replace(opening, citations=citations)
        self._writer = Writer(opening, with_logprobs=with_logprobs(body))
        self._reader = _reader(body, answers.first)

    @property
    def response(self) -> r.Response:
        return self._writer.response

    def begin(self) -> bytes:
        return self._writer.begin()

    def piece(self, index: int, piece: TextChunk) -> bytes:
        return self._writer.parts(self._reader.push(piece))

    def end(self, index: int, end: End) -> bytes:
        return self._writer.parts(self._reader.finish(end.finish_reason)) + self._writer.end(end)

    def fail(self, error: ChatsiteError) -> bytes:
        return self._writer.fail(error)


def _reader(body: r.ResponseRequest, answer: Answer) -> PartReader:
    return PartReader(answer, one_call=body.parallel_tool_calls is False, **called(_options(body)))


def wanted_of(body: r.ResponseRequest) -> GenerationRequest:
    if body.previous_response_id or body.conversation:
        param = "previous_response_id" if body.previous_response_id else "conversation"
        raise BadField(
            _("Responses are not stored on this server. Send the whole conversation as input."),
            param=param,
        )
    for index, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            raise BadField(
                _("tools: only tools of type “function” are supported."),
                param=f"tools[{index}].type",
            )
    if body.prompt:
        raise BadField(
            _("prompt: stored prompts are not supported. Send the text as input."), param="prompt"
        )
    if body.n is not None and body.n > 1:
        raise BadField(_("n: only 1 is supported."), param="n")
    return GenerationRequest(
        body.model, messages_of(body), _params(body), _options(body), param="input", chats=True
    )


def _options(body: r.ResponseRequest) -> PromptOptions:
    effort = body.reasoning.effort if body.reasoning else None
    return convert.options(
        tuple(Tool(s.name, s.description or "", s.parameters or {}) for s in body.tools or ()),
        body.tool_choice,
        effort=convert.effort(effort, "reasoning.effort"),
    )


def _params(body: r.ResponseRequest) -> SamplingParams:
    wanted = body.text and body.text.format
    given = t.ResponseFormat(wanted.type, schema=wanted.schema) if wanted else None
    return convert.sampling(
        body,
        *convert.format_constraint(given),
        max_tokens=body.max_output_tokens,
        top_logprobs=(body.top_logprobs or 0) if with_logprobs(body) else None,
    )


def with_logprobs(body: r.ResponseRequest) -> bool:
    return "message.output_text.logprobs" in (body.include or ())


def messages_of(body: r.ResponseRequest) -> tuple[ChatMessage, ...]:
    found = [ChatMessage("system", body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return (*found, ChatMessage("user", body.input))
    names: dict[str, str] = {}
    thought = ""  # belongs to the next answer
    for index, item in enumerate(body.input):
        match item.type:
            case "message":
                role = "system" if item.role == "developer" else item.role
                text = convert.text_of(item.content, f"input[{index}].content")
                found.append(ChatMessage(role, text, thought if role == "assistant" else ""))
                thought = ""
            case "function_call":
                names[item.call_id] = item.name
                call = ToolCall(item.call_id, item.name, convert.arguments(item.arguments))
                last = found[-1] if found else None
                if last is not None and last.role == "assistant":
                    calls = (*last.tool_calls, call)
                    found[-1] = msgspec.structs.replace(last, tool_calls=calls)
                else:
                    found.append(ChatMessage("assistant", "", thought, (call,)))
                thought = ""
            case "function_call_output":
                found.append(
                    ChatMessage(
                        "tool",
                        convert.text_of(item.output, f"input[{index}].output"),
                        tool_call_id=item.call_id,
                        tool_name=names.get(item.call_id, ""),
                    )
                )
            case "reasoning":
                # Templates drop reasoning of earlier turns, and keep it between the calls of one
                # turn.
                thought = convert.text_of(item.summary, f"input[{index}].summary")
    return tuple(found)


def _said(choice: t.ToolChoice) -> dict[str, Any]:
    """Return the choice as it was sent, without the fields of other forms."""

    def without_null(value: Any) -> Any:
        if isinstance(value, list):
            return [without_null(one) for one in value]
        if isinstance(value, dict):
            return {name: without_null(one) for name, one in value.items() if one is not None}
        return value

    said: dict[str, Any] = without_null(msgspec.to_builtins(choice))
    return said


def _opening(body: r.ResponseRequest, answer: Answer) -> r.Response:
    choice: Any = body.tool_choice or "auto"
    text_format = body.text and body.text.format
    return r.Response(
        id=f"resp_{answer.id.replace('-', '')}",
        created_at=int(answer.created),
        model=answer.model,
        status="in_progress",
        output=[],
        instructions=body.instructions,
        metadata=body.metadata or {},
        parallel_tool_calls=body.parallel_tool_calls is not False,
        temperature=body.temperature,
        top_p=body.top_p,
        max_output_tokens=body.max_output_tokens,
        top_logprobs=body.top_logprobs or 0,
        tool_choice=choice if isinstance(choice, str) else _said(choice),
        tools=[{"strict": False, **msgspec.to_builtins(tool)} for tool in body.tools or ()],
        text={"format": msgspec.to_builtins(text_format) if text_format else {"type": "text"}},
    )
