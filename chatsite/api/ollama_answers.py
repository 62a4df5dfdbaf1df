"""The answers of Ollama's `/api/generate` and `/api/chat`, whole and line by line."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from django.http import HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api import http, ollama, ollama_context
from chatsite.api.many import Answers, Wanted, ask_all
from chatsite.api.output import Parts, Reader, read_all
from chatsite.api.requests import Piece
from chatsite.api.streaming import Form, stream
from chatsite.chat.runtime import runtime
from chatsite.engine.messages import ChatMessage, TokenLogprob, ToolCall
from chatsite.errors import ChatsiteError
from chatsite.stream.messages import End


async def answer(
    caller: Caller, wanted: Wanted, form: Callable[[Answers], Lines], *, streamed: bool
) -> HttpResponseBase:
    if streamed:
        return await stream(caller, [wanted], form)
    async with ask_all(runtime(), caller, [wanted]) as answers:
        lines = form(answers)
        [(whole, end)] = await read_all(answers, [lines.reader])
        return http.answer(lines.last(whole, end), answers.position)


class Lines(Form):
    """An object a line for each piece of text, and the last with ``done``. ``model`` is what
    the client calls it."""

    content_type = ollama.CONTENT_TYPE

    def __init__(self, model: str, wanted: Wanted, answers: Answers) -> None:
        self.wanted = wanted
        self._model = model
        self.reader = Reader(answers.first, tools=bool(wanted.options.tools))

    @abstractmethod
    def fields(self, parts: Parts) -> dict[str, Any]:
        """How the endpoint calls what it answers."""

    def piece(self, index: int, piece: Piece) -> bytes:
        parts = self.reader.push(piece)
        # Nothing while it is not known yet whether a call begins.
        return b"" if parts == Parts() else ollama.line(self._object(parts, done=False))

    def end(self, index: int, end: End) -> bytes:
        return ollama.line(self.last(self.reader.finish(), end))

    def fail(self, error: ChatsiteError) -> bytes:
        return ollama.failure(error)

    def sign(self, text: str) -> bytes:
        """Lines have no comments."""
        return b""

    def last(self, parts: Parts, end: End) -> dict[str, Any]:
        reason = "length" if end.finish_reason == "length" else "stop"
        return self._object(parts, done=True) | {"done_reason": reason} | _figures(end)

    def _object(self, parts: Parts, *, done: bool) -> dict[str, Any]:
        return {
            "model": self._model,
            "created_at": ollama.now(),
            **self.fields(parts),
            "done": done,
            **_logprobs(parts.logprobs),
        }


class Chatted(Lines):
    _calls = 0

    def fields(self, parts: Parts) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": parts.content}
        if parts.reasoning:
            message["thinking"] = parts.reasoning
        if parts.calls:
            message["tool_calls"] = [
                _call(call, index) for index, call in enumerate(parts.calls, self._calls)
            ]
            self._calls += len(parts.calls)
        return {"message": message}


class Generated(Lines):
    def __init__(self, model: str, wanted: Wanted, answers: Answers) -> None:
        super().__init__(model, wanted, answers)
        self._said: list[str] = []

    def fields(self, parts: Parts) -> dict[str, Any]:
        self._said.append(parts.content)
        found: dict[str, Any] = {"response": parts.content}
        return found | ({"thinking": parts.reasoning} if parts.reasoning else {})

    def last(self, parts: Parts, end: End) -> dict[str, Any]:
        found = super().last(parts, end)
        if self.wanted.options.raw is None:
            said = ChatMessage("assistant", "".join(self._said))
            found["context"] = ollama_context.pack([*self.wanted.messages, said])
        return found


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    arguments = json.loads(call.arguments or "{}")
    return {
        "id": call.id,
        "function": {"index": index, "name": call.name, "arguments": arguments},
    }


def _figures(end: End) -> dict[str, int]:
    """Durations in nanoseconds. Waiting, of which loading may be a part, stands for loading."""
    times = {name: round(value * 1e6) for name, value in end.timings.items()}
    figures = {
        "total_duration": times.get("total", 0),
        "load_duration": times.get("queue", 0),
        "prompt_eval_count": end.usage.get("prompt_tokens", 0),
        "prompt_eval_duration": times.get("prefill", 0),
        "eval_count": end.usage.get("completion_tokens", 0),
        "eval_duration": times.get("decode", 0),
    }
    return {name: value for name, value in figures.items() if value}


def _logprobs(found: Sequence[TokenLogprob]) -> dict[str, Any]:
    def one(token: bytes, logprob: float) -> dict[str, Any]:
        text = token.decode(errors="replace")
        return {"token": text, "logprob": logprob, "bytes": list(token)}

    def full(item: TokenLogprob) -> dict[str, Any]:
        rivals = [one(piece, logprob) for _id, piece, logprob in item.top]
        return one(item.piece, item.logprob) | ({"top_logprobs": rivals} if rivals else {})

    return {"logprobs": [full(item) for item in found]} if found else {}
