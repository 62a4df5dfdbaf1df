"""`/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import msgspec
from django.http import HttpRequest, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http, progress
from chatsite.api.core.documents import Citation, with_documents
from chatsite.api.core.fan_out import Answers, GenerationRequest, ask_all
from chatsite.api.core.http import encode
from chatsite.api.core.parts import PartReader, Parts, called, read_all
from chatsite.api.core.requests import Answer, TextChunk
from chatsite.api.core.streaming import DONE, ResponseEncoder, stream
from chatsite.api.openai import convert
from chatsite.api.openai import types as t
from chatsite.engine.contract.messages import CUT, TokenLogprob, ToolCall
from chatsite.stream.entries import End

_decoder = msgspec.json.Decoder(t.ChatRequest)


@http.endpoint("chat", "POST")
async def completions(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    messages, citations = await with_documents(
        caller, body.model, convert.messages(body.messages), body.collections
    )
    options = convert.with_progress(body, convert.chat_options(body))
    wanted = [
        GenerationRequest(body.model, messages, params, options, chats=True)
        for params in convert.choices(convert.chat_params(body), body.n)
    ]
    if body.stream:
        return await stream(caller, wanted, partial(Chunks, body, citations=citations))
    async with ask_all(runtime(), caller, wanted) as answers:
        return http.answer(await _whole(body, citations, answers), answers.position)


async def _whole(
    body: t.ChatRequest, citations: list[Citation] | None, answers: Answers
) -> t.ChatCompletion:
    readers = readers_of(body, answers.all)
    read = await read_all(answers, readers)
    ends = [end for _whole, end in read]
    first = answers.first
    return t.ChatCompletion(
        id=f"chatcmpl-{first.id}",
        created=int(first.created),
        model=first.model,
        system_fingerprint=fingerprint(first),
        choices=[
            choice_of(body, index, whole, readers[index].finish_reason(end.finish_reason))
            for index, (whole, end) in enumerate(read)
        ],
        usage=usage(ends),
        timings=progress.timings(ends[0]),
        citations=msgspec.UNSET if citations is None else citations,
    )


def readers_of(body: t.ChatRequest, answers: Sequence[Answer]) -> list[PartReader]:
    known = called(convert.chat_options(body))
    one_call = body.parallel_tool_calls is False
    return [PartReader(answer, one_call=one_call, **known) for answer in answers]


def choice_of(body: t.ChatRequest, index: int, whole: Parts, reason: str) -> t.ChatChoice:
    message = t.MessageOut(whole.content or (None if whole.calls else ""))
    if whole.reasoning:
        message = msgspec.structs.replace(
            message, reasoning_content=whole.reasoning, reasoning=whole.reasoning
        )
    if whole.calls:
        message = msgspec.structs.replace(message, tool_calls=[_call(call) for call in whole.calls])
    logprobs = t.ChatLogprobs([logprob(one) for one in whole.logprobs]) if body.logprobs else None
    return t.ChatChoice(index, message, finish_reason(reason), logprobs)


def finish_reason(reason: str) -> Literal["stop", "length", "tool_calls"]:
    return "tool_calls" if reason == "tool_calls" else "length" if reason in CUT else "stop"


def usage(ends: list[End]) -> t.Usage:
    """Return the usage of all choices; their shared prompt counts once."""
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
    """Return the fingerprint of the model file."""
    return f"fp_{answer.digest[:12]}"


def _call(call: ToolCall) -> t.Call:
    return t.Call(call.id, t.Function(call.name, call.arguments))


def logprob(one: TokenLogprob) -> t.ContentLogprob:
    return t.ContentLogprob(
        one.piece.decode(errors="replace"),
        one.logprob,
        list(one.piece),
        [
            t.TopLogprob(piece.decode(errors="replace"), logprob, list(piece))
            for _token, piece, logprob in one.top
        ],
    )


class Chunks(ResponseEncoder):
    """Encodes roles, deltas, one finish per choice, usage if requested, and `[DONE]`.

    The JSON around the text is assembled from bytes: this cost arises for every streamed token.
    """

    def __init__(
        self, body: t.ChatRequest, answers: Answers, citations: list[Citation] | None = None
    ) -> None:
        self._citations = {} if citations is None else {"citations": citations}
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
        self._plain_tail = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"
        self._tail = self._plain_tail
        self._readers = readers_of(body, answers.all)
        self._progress = [progress.Progress.of(body, answer) for answer in answers.all]
        self._ends: list[End] = []

    def begin(self) -> bytes:
        role = b'"role":"assistant","content":""'
        return b"".join(self._chunk(index, role) for index in range(len(self._readers)))

    def piece(self, index: int, piece: TextChunk) -> bytes:
        if (known := self._progress[index]) is None:
            return self._parts(index, self._readers[index].push(piece))
        told = [{"prompt_progress": one} for one in known.push(piece.text)]
        out = b"".join(self._head + b"]," + encode(one)[1:] + b"\n\n" for one in told)
        if (timings := known.timings()) is not None:
            self._tail = self._with(timings)
        out += self._parts(index, self._readers[index].push(piece))
        self._tail = self._plain_tail
        return out

    def _with(
        self, timings: dict[str, float], more: dict[str, list[Citation]] | None = None
    ) -> bytes:
        """Return the tail of a chunk that carries timings, and ``more`` fields."""
        usage = b',"usage":null' if self._with_usage else b""
        rest = b"," + encode(more)[1:-1] if more else b""
        return b'],"timings":%b%b%b}\n\n' % (encode(timings), usage, rest)

    def end(self, index: int, end: End) -> bytes:
        self._ends.append(end)
        reader = self._readers[index]
        out = self._parts(index, reader.finish(end.finish_reason))
        reason = finish_reason(reader.finish_reason(end.finish_reason))
        if len(self._ends) == len(self._readers) and not self._with_usage:
            self._tail = self._with(progress.timings(self._ends[0]), self._citations)
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
            logprobs = encode(t.ChatLogprobs([logprob(one) for one in parts.logprobs]))
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
        timings = progress.timings(self._ends[0])
        rest = encode({"usage": usage(self._ends), "timings": timings, **self._citations})
        return self._head + b"]," + rest[1:] + b"\n\n"
