"""The answers of Ollama's `/api/generate` and `/api/chat`, whole and streamed as lines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from django.http import HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http
from chatsite.api.core.documents import Citation
from chatsite.api.core.fan_out import Answers, GenerationRequest, ask_all
from chatsite.api.core.parts import PartReader, Parts, called, read_all
from chatsite.api.core.requests import TextChunk
from chatsite.api.core.streaming import ResponseEncoder, stream
from chatsite.api.ollama import common, context
from chatsite.engine.contract.messages import CUT, ChatMessage, TokenLogprob, ToolCall
from chatsite.engine.prompting import call_body
from chatsite.errors import ChatsiteError
from chatsite.stream.entries import End


async def answer(
    caller: Caller, wanted: GenerationRequest, form: Callable[[Answers], Lines], *, streamed: bool
) -> HttpResponseBase:
    if streamed:
        return await stream(caller, [wanted], form)
    async with ask_all(runtime(), caller, [wanted]) as answers:
        lines = form(answers)
        [(whole, end)] = await read_all(answers, [lines.reader])
        return http.answer(lines.last(whole, end), answers.position)


class Lines(ResponseEncoder):
    """Encodes one JSON object per line for each piece of text, the last with ``done``.

    ``model`` is the name that the client used.
    """

    content_type = common.CONTENT_TYPE

    def __init__(self, model: str, wanted: GenerationRequest, answers: Answers) -> None:
        self.wanted = wanted
        self._model = model
        self.reader = PartReader(answers.first, **called(wanted.options))

    @abstractmethod
    def fields(self, parts: Parts) -> dict[str, Any]:
        """Return the endpoint's fields for these parts."""

    def piece(self, index: int, piece: TextChunk) -> bytes:
        parts = self.reader.push(piece)
        # Nothing while the parser can't tell yet whether a call begins.
        return b"" if parts == Parts() else common.line(self._object(parts, done=False))

    def end(self, index: int, end: End) -> bytes:
        return common.line(self.last(self.reader.finish(end.finish_reason), end))

    def fail(self, error: ChatsiteError) -> bytes:
        return common.failure(error)

    def keepalive(self, text: str) -> bytes:
        """Return nothing: this format has no comments."""
        return b""

    def last(self, parts: Parts, end: End) -> dict[str, Any]:
        reason = "length" if end.finish_reason in CUT else "stop"
        return self._object(parts, done=True) | {"done_reason": reason} | _figures(end)

    def _object(self, parts: Parts, *, done: bool) -> dict[str, Any]:
        return {
            "model": self._model,
            "created_at": common.now(),
            **self.fields(parts),
            "done": done,
            **_logprobs(parts.logprobs),
        }


class Chatted(Lines):
    _calls = 0

    def __init__(
        self,
        model: str,
        wanted: GenerationRequest,
        answers: Answers,
        citations: list[Citation] | None = None,
    ) -> None:
        super().__init__(model, wanted, answers)
        self._citations = {} if citations is None else {"citations": citations}

    def last(self, parts: Parts, end: End) -> dict[str, Any]:
        return super().last(parts, end) | self._citations

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
    def __init__(self, model: str, wanted: GenerationRequest, answers: Answers) -> None:
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
            found["context"] = context.pack([*self.wanted.messages, said])
        return found


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    # Ollama sends an object here; for a truncated call it holds the arguments received so far.
    arguments = call_body.closed(call.arguments)
    return {
        "id": call.id,
        "function": {"index": index, "name": call.name, "arguments": arguments},
    }


def _figures(end: End) -> dict[str, int]:
    """Return durations in nanoseconds; ``load_duration`` is the queue time including loading."""
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
