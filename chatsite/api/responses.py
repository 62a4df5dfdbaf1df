"""`/v1/responses`, without memory: each request brings all that it builds on."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.api import convert, http
from chatsite.api import responses_types as r
from chatsite.api import types as t
from chatsite.api.http import BadField
from chatsite.api.many import Answers, Wanted, ask_all
from chatsite.api.output import Reader
from chatsite.api.requests import Answer, Piece
from chatsite.api.response_events import Writer
from chatsite.api.streaming import Form, stream
from chatsite.chat.runtime import runtime
from chatsite.engine.messages import ChatMessage, SamplingParams, Tool, ToolCall
from chatsite.errors import ChatsiteError
from chatsite.stream.messages import End

_decoder = msgspec.json.Decoder(r.ResponseRequest)


@http.endpoint("chat", "POST")
async def responses(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    wanted = [_wanted(body)]
    if body.stream:
        return await stream(caller, wanted, partial(_Events, body))
    async with ask_all(runtime(), caller, wanted) as answers:
        events = _Events(body, answers)
        async for index, event in answers.events():
            if isinstance(event, Piece):
                events.piece(index, event)
            elif isinstance(event, End):
                events.end(index, event)
        return http.answer(events.response, answers.position)


class _Events(Form):
    def __init__(self, body: r.ResponseRequest, answers: Answers) -> None:
        self._writer = Writer(_opening(body, answers.first))
        self._reader = _reader(body, answers.first)

    @property
    def response(self) -> r.Response:
        return self._writer.response

    def begin(self) -> bytes:
        return self._writer.begin()

    def piece(self, index: int, piece: Piece) -> bytes:
        return self._writer.parts(self._reader.push(piece))

    def end(self, index: int, end: End) -> bytes:
        return self._writer.parts(self._reader.finish()) + self._writer.end(end)

    def fail(self, error: ChatsiteError) -> bytes:
        return self._writer.fail(error)


def _reader(body: r.ResponseRequest, answer: Answer) -> Reader:
    tools = bool(body.tools) and body.tool_choice != "none"
    return Reader(answer, tools, one_call=body.parallel_tool_calls is False)


def _wanted(body: r.ResponseRequest) -> Wanted:
    if body.previous_response_id or body.conversation:
        param = "previous_response_id" if body.previous_response_id else "conversation"
        raise BadField(
            _("Answers are not stored here. Send the whole conversation as input."), param=param
        )
    for index, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            raise BadField(
                _("tools: only functions of your own are supported."), param=f"tools[{index}].type"
            )
    choice = body.tool_choice
    think = None
    if body.reasoning and body.reasoning.effort is not None:
        think = body.reasoning.effort != "none"
    options = convert.options(
        tuple(Tool(s.name, s.description or "", s.parameters or {}) for s in body.tools or ()),
        choice.name if isinstance(choice, r.FlatToolName) else choice,
        think,
    )
    return Wanted(body.model, _messages(body), _params(body), options)


def _params(body: r.ResponseRequest) -> SamplingParams:
    schema = None
    if body.text and body.text.format:
        wanted = body.text.format
        schema = convert.format_schema(t.ResponseFormat(wanted.type, schema=wanted.schema))
    sampled = t.Sampled(
        model=body.model,
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_output_tokens,
    )
    return convert.sampling(sampled, json_schema=schema)


def _messages(body: r.ResponseRequest) -> tuple[ChatMessage, ...]:
    found = [ChatMessage("system", body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return (*found, ChatMessage("user", body.input))
    names: dict[str, str] = {}
    for index, item in enumerate(body.input):
        match item.type:
            case "message":
                role = "system" if item.role == "developer" else item.role
                text = convert.text_of(item.content, f"input[{index}].content")
                found.append(ChatMessage(role, text))
            case "function_call":
                names[item.call_id] = item.name
                call = ToolCall(item.call_id, item.name, item.arguments)
                last = found[-1] if found else None
                if last is not None and last.role == "assistant":
                    calls = (*last.tool_calls, call)
                    found[-1] = msgspec.structs.replace(last, tool_calls=calls)
                else:
                    found.append(ChatMessage("assistant", "", tool_calls=(call,)))
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
                # What the model thought for an earlier answer is of no use to the next one.
                continue
    return tuple(found)


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
        tool_choice=choice if isinstance(choice, str) else msgspec.to_builtins(choice),
        tools=[{"strict": False, **msgspec.to_builtins(tool)} for tool in body.tools or ()],
        text={"format": msgspec.to_builtins(text_format) if text_format else {"type": "text"}},
    )
