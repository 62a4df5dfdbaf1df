"""`/v1/chat/completions`."""

from __future__ import annotations

from functools import partial
from typing import Literal

import msgspec
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api import convert, http
from chatsite.api import types as t
from chatsite.api.http import encode
from chatsite.api.many import Answers, Wanted, ask_all
from chatsite.api.output import Parts, Reader, read_all
from chatsite.api.requests import Answer, Piece
from chatsite.api.streaming import DONE, Form, stream
from chatsite.chat.runtime import runtime
from chatsite.engine.messages import TokenLogprob, ToolCall
from chatsite.stream.messages import End

_decoder = msgspec.json.Decoder(t.ChatRequest)


@http.endpoint("chat", "POST")
async def completions(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    messages = convert.messages(body.messages)
    options = convert.chat_options(body)
    wanted = [
        Wanted(body.model, messages, params, options)
        for params in convert.choices(convert.chat_params(body), body.n)
    ]
    if body.stream:
        return await stream(caller, wanted, partial(_Chunks, body))
    async with ask_all(runtime(), caller, wanted) as answers:
        return http.answer(await _whole(body, answers), answers.position)


async def _whole(body: t.ChatRequest, answers: Answers) -> t.ChatCompletion:
    readers = [_reader(body, answer) for answer in answers.all]
    read = await read_all(answers, readers)
    ends = [end for _whole, end in read]
    first = answers.first
    return t.ChatCompletion(
        id=f"chatcmpl-{first.id}",
        created=int(first.created),
        model=first.model,
        system_fingerprint=fingerprint(first),
        choices=[
            _choice(body, index, whole, readers[index].finish_reason(end.finish_reason))
            for index, (whole, end) in enumerate(read)
        ],
        usage=usage(ends),
        timings=ends[0].timings,
    )


def _reader(body: t.ChatRequest, answer: Answer) -> Reader:
    tools = bool(body.tools) and body.tool_choice != "none"
    return Reader(answer, tools, one_call=body.parallel_tool_calls is False)


def _choice(body: t.ChatRequest, index: int, whole: Parts, reason: str) -> t.ChatChoice:
    message = t.MessageOut(whole.content or (None if whole.calls else ""))
    if whole.reasoning:
        message = msgspec.structs.replace(
            message, reasoning_content=whole.reasoning, reasoning=whole.reasoning
        )
    if whole.calls:
        message = msgspec.structs.replace(message, tool_calls=[_call(call) for call in whole.calls])
    logprobs = t.ChatLogprobs([_logprob(one) for one in whole.logprobs]) if body.logprobs else None
    return t.ChatChoice(index, message, finish_reason(reason), logprobs)


def finish_reason(reason: str) -> Literal["stop", "length", "tool_calls"]:
    return "tool_calls" if reason == "tool_calls" else "length" if reason == "length" else "stop"


def usage(ends: list[End]) -> t.Usage:
    """Choices share their prompt: it counts once."""
    prompt = max(end.usage.get("prompt_tokens", 0) for end in ends)
    completion = sum(end.usage.get("completion_tokens", 0) for end in ends)
    cached = max(end.usage.get("cached_tokens", 0) for end in ends)
    reasoning = sum(end.usage.get("reasoning_tokens", 0) for end in ends)
    return t.Usage(
        prompt,
        completion,
        prompt + completion,
        t.PromptDetails(cached),
        t.CompletionDetails(reasoning),
    )


def fingerprint(answer: Answer) -> str:
    """The same for the same model file."""
    return f"fp_{answer.digest[:12]}"


def _call(call: ToolCall) -> t.Call:
    return t.Call(call.id, t.Function(call.name, call.arguments))


def _logprob(one: TokenLogprob) -> t.ContentLogprob:
    return t.ContentLogprob(
        one.piece.decode(errors="replace"),
        one.logprob,
        list(one.piece),
        [
            t.TopLogprob(piece.decode(errors="replace"), logprob, list(piece))
            for _token, piece, logprob in one.top
        ],
    )


class _Chunks(Form):
    """Roles, deltas, one finish per choice, usage if it was asked for, `[DONE]`. Made by hand
    around the text: this is what every streamed token costs."""

    def __init__(self, body: t.ChatRequest, answers: Answers) -> None:
        first = answers.first
        head = encode(
            {
                "id": f"chatcmpl-{first.id}",
                "object": "chat.completion.chunk",
                "created": int(first.created),
                "model": first.model,
                "system_fingerprint": fingerprint(first),
            }
        )
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._logprobs = bool(body.logprobs)
        self._tail = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"
        self._readers = [_reader(body, answer) for answer in answers.all]
        self._ends: list[End] = []

    def begin(self) -> bytes:
        role = b'"role":"assistant","content":""'
        return b"".join(self._chunk(index, role) for index in range(len(self._readers)))

    def piece(self, index: int, piece: Piece) -> bytes:
        return self._parts(index, self._readers[index].push(piece))

    def end(self, index: int, end: End) -> bytes:
        self._ends.append(end)
        reader = self._readers[index]
        out = self._parts(index, reader.finish())
        reason = finish_reason(reader.finish_reason(end.finish_reason))
        out += self._chunk(index, b"", reason=encode(reason))
        if len(self._ends) == len(self._readers):
            out += self._usage() + DONE
        return out

    def _chunk(
        self, index: int, delta: bytes, logprobs: bytes = b"null", reason: bytes = b"null"
    ) -> bytes:
        return b'%b{"index":%d,"delta":{%b},"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            delta,
            logprobs,
            reason,
            self._tail,
        )

    def _parts(self, index: int, parts: Parts) -> bytes:
        out = b""
        logprobs = b"null"
        if self._logprobs and parts.logprobs:
            logprobs = encode(t.ChatLogprobs([_logprob(one) for one in parts.logprobs]))
        if parts.reasoning:
            text = encode(parts.reasoning)
            out += self._chunk(index, b'"reasoning_content":%b,"reasoning":%b' % (text, text))
        if parts.content or logprobs != b"null":
            out += self._chunk(index, b'"content":' + encode(parts.content), logprobs)
        calls = self._readers[index].calls
        for at, call in enumerate(parts.calls, len(calls) - len(parts.calls)):
            delta = {"index": at, **msgspec.to_builtins(_call(call))}
            out += self._chunk(index, b'"tool_calls":[' + encode(delta) + b"]")
        return out

    def _usage(self) -> bytes:
        if not self._with_usage:
            return b""
        rest = encode({"usage": usage(self._ends), "timings": self._ends[0].timings})
        return self._head + b"]," + rest[1:] + b"\n\n"
