"""The events of `/v1/responses` in order, and the response that they build."""

from __future__ import annotations

from typing import Any

import msgspec

from chatsite.api.core.http import encode, error_body
from chatsite.api.core.parts import Parts
from chatsite.api.openai.chat import logprob
from chatsite.api.openai.responses_types import Response
from chatsite.api.openai.types import ContentLogprob
from chatsite.engine.contract.messages import CUT, TokenLogprob, ToolCall
from chatsite.errors import ChatsiteError
from chatsite.stream.entries import End


class Writer:
    """Encodes the parts of an answer as events.

    ``response`` is the answer so far; after `end` it is complete. ``with_logprobs`` adds the log
    probabilities of the message's tokens.
    """

    def __init__(self, response: Response, *, with_logprobs: bool = False) -> None:
        self.response = response
        self._with_logprobs = with_logprobs
        # Of text that the parser still holds back, and of the open message.
        self._held: list[TokenLogprob] = []
        self._logprobs: list[ContentLogprob] = []
        self._sequence = 0
        # The output item in progress, and its text so far.
        self._open: dict[str, Any] | None = None
        self._text = ""

    def begin(self) -> bytes:
        return self._state("response.created") + self._state("response.in_progress")

    def parts(self, parts: Parts) -> bytes:
        out = b""
        if self._with_logprobs:
            self._held += parts.logprobs
        if parts.reasoning:
            out += self._text_of("reasoning", parts.reasoning)
            self._held = last_of(self._held, parts.content)
        if parts.content:
            out += self._text_of("message", parts.content)
        if parts.calls:
            self._held = []
        for at, call in enumerate(parts.calls, 1):
            cut = parts.cut and at == len(parts.calls)
            out += self._close() + self._call(call, "incomplete" if cut else "completed")
        return out

    def end(self, end: End) -> bytes:
        out = self._close()
        usage = end.usage
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        cut = end.finish_reason in CUT
        self._change(
            status="incomplete" if cut else "completed",
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            usage={
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0)},
                "output_tokens": completion,
                "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens", 0)},
                "total_tokens": prompt + completion,
            },
        )
        return out + self._state("response.incomplete" if cut else "response.completed")

    def fail(self, error: ChatsiteError) -> bytes:
        body = error_body(error)["error"]
        self._change(status="failed", error={"code": body["code"], "message": body["message"]})
        return self._state("response.failed")

    def _change(self, **values: Any) -> None:
        self.response = msgspec.structs.replace(self.response, **values)

    def _event(self, type: str, **values: Any) -> bytes:
        data = encode({"type": type, "sequence_number": self._sequence, **values})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (type.encode(), data)

    def _state(self, type: str) -> bytes:
        return self._event(type, response=self.response)

    @property
    def _index(self) -> int:
        return len(self.response.output)

    def _id(self, kind: str) -> str:
        return f"{kind}_{self.response.id.removeprefix('resp_')}_{self._index}"

    def _text_of(self, type: str, text: str) -> bytes:
        out = b""
        if self._open is None or self._open["type"] != type:
            out = self._close() + self._begin(type)
        assert self._open is not None  # noqa: S101  (`_begin` opened it)
        self._text += text
        place = {"item_id": self._open["id"], "output_index": self._index, "delta": text}
        if type == "reasoning":
            return out + self._event(
                "response.reasoning_summary_text.delta", summary_index=0, **place
            )
        new = [logprob(one) for one in self._held]
        self._logprobs += new
        self._held = []
        return out + self._event(
            "response.output_text.delta", content_index=0, logprobs=new, **place
        )

    def _begin(self, type: str) -> bytes:
        self._text = ""
        self._logprobs = []
        if type == "reasoning":
            self._open = {"id": self._id("rs"), "type": type, "summary": []}
            added = self._event(
                "response.output_item.added", output_index=self._index, item=self._open
            )
            return added + self._event(
                "response.reasoning_summary_part.added",
                item_id=self._open["id"],
                output_index=self._index,
                summary_index=0,
                part={"type": "summary_text", "text": ""},
            )
        self._open = {
            "id": self._id("msg"),
            "type": type,
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        added = self._event("response.output_item.added", output_index=self._index, item=self._open)
        return added + self._event(
            "response.content_part.added",
            item_id=self._open["id"],
            output_index=self._index,
            content_index=0,
            part=_output_text("", []),
        )

    def _close(self) -> bytes:
        """End the open item, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return b""
        place = {"item_id": item["id"], "output_index": self._index}
        if item["type"] == "reasoning":
            part = {"type": "summary_text", "text": self._text}
            item = {**item, "summary": [part]}
            out = self._event(
                "response.reasoning_summary_text.done", summary_index=0, text=self._text, **place
            ) + self._event(
                "response.reasoning_summary_part.done", summary_index=0, part=part, **place
            )
        else:
            # Tokens without text of their own are reported at the end.
            self._logprobs += [logprob(one) for one in self._held]
            self._held = []
            part = _output_text(self._text, self._logprobs)
            item = {**item, "status": "completed", "content": [part]}
            out = self._event(
                "response.output_text.done",
                content_index=0,
                text=self._text,
                logprobs=self._logprobs,
                **place,
            ) + self._event("response.content_part.done", content_index=0, part=part, **place)
        return out + self._done(item)

    def _done(self, item: dict[str, Any]) -> bytes:
        out = self._event("response.output_item.done", output_index=self._index, item=item)
        self._change(output=[*self.response.output, item])
        return out

    def _call(self, call: ToolCall, status: str) -> bytes:
        item = {
            "id": self._id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
        place = {"item_id": item["id"], "output_index": self._index}
        out = self._event("response.output_item.added", output_index=self._index, item=item)
        out += self._event("response.function_call_arguments.delta", delta=call.arguments, **place)
        out += self._event(
            "response.function_call_arguments.done",
            arguments=call.arguments,
            name=call.name,
            **place,
        )
        return out + self._done({**item, "status": status, "arguments": call.arguments})


def _output_text(text: str, logprobs: list[ContentLogprob]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def last_of(found: list[TokenLogprob], text: str) -> list[TokenLogprob]:
    """Return the last tokens, those that make up ``text``."""
    missing, at = len(text.encode()), len(found)
    while at and missing > 0:
        at -= 1
        missing -= len(found[at].piece)
    return found[at:]
