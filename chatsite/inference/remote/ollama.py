"""The client of Ollama's own API.

The compatible API of Ollama is not used: it has no context length, no switch of reasoning, and
cuts prompts that are too long without a word.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
import numpy as np

from chatsite.engine.contract.messages import ChatMessage, PromptOptions
from chatsite.inference.remote import messages as forms
from chatsite.inference.remote import refusals
from chatsite.inference.remote.contract import (
    Capability,
    Discovery,
    Egress,
    Finish,
    Interrupted,
    Lied,
    Piece,
    RemoteModel,
    RemoteRequest,
    Server,
    Unsupported,
    Vectors,
)
from chatsite.inference.remote.openai_compatible import (
    Count,
    LogprobItem,
    logprob_of,
    vectors,
    writer_of,
)
from chatsite.inference.remote.transport import (
    Wire,
    decoded,
    error_status,
    message_of,
    refusal,
    within,
)

_STREAM: Final = "application/x-ndjson"
_MODELS_MOST: Final = 1000
_EMBED_AT_ONCE: Final = 64
_EMBEDDINGS_MOST: Final = 64 << 20
# Tokens, unless model or administrator say otherwise: memory for the whole context of a model is
# often more than the machine has, and then Ollama computes on the processor.
_CONTEXT: Final = 8192
_WITH_LOGPROBS: Final = (0, 12, 11)
_CAPABILITIES: Final = {
    "completion": frozenset({Capability.CHAT, Capability.COMPLETION, Capability.JSON_SCHEMA}),
    "tools": frozenset({Capability.TOOLS}),
    "vision": frozenset({Capability.VISION}),
    "thinking": frozenset({Capability.REASONING}),
    "embedding": frozenset({Capability.EMBEDDINGS}),
}
_NUM_CTX = re.compile(r"^num_ctx\s+(\d{1,9})\s*$", re.MULTILINE)


class _Version(msgspec.Struct):
    version: str = ""


class _Tag(msgspec.Struct):
    name: str = ""
    model: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


class _Show(msgspec.Struct):
    """``capabilities`` is missing before version 0.6.4."""

    capabilities: list[str] | None = None
    model_info: dict[str, Any] | None = None
    parameters: str | None = None
    template: str | None = None


class _Function(msgspec.Struct):
    name: str = ""
    arguments: dict[str, Any] | str | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    content: str = ""
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    """Durations are in nanoseconds."""

    message: _Message | None = None
    response: str | None = None
    done: bool = False
    done_reason: str = ""
    error: Any = None
    logprobs: list[LogprobItem] | None = None
    load_duration: Count = 0
    prompt_eval_count: Count = 0
    prompt_eval_duration: Count = 0
    eval_count: Count = 0
    eval_duration: Count = 0
    total_duration: Count = 0


class _Vectors(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: Count = 0


class Ollama:
    """An Ollama server.

    Each request names the same context length, because another one has the model loaded again.
    """

    def __init__(self, server: Server, egress: Egress, wire: Wire | None = None) -> None:
        self.server = server
        self._wire = wire or Wire(server, egress)

    async def close(self) -> None:
        await self._wire.close()

    async def healthy(self) -> None:
        await self._wire.ask("/api/version", _Version)

    async def discover(self) -> Discovery:
        async with within(self.server.timeouts.first):
            version = (await self._wire.ask("/api/version", _Version)).version
            tags = (await self._wire.ask("/api/tags", _Tags)).models or []
            if len(tags) > _MODELS_MOST:
                raise Lied(f"the engine names more than {_MODELS_MOST} models")
            numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
            logprobs = numbers is not None and tuple(map(int, numbers.groups())) >= _WITH_LOGPROBS
            found = [await self._model(tag.name or tag.model, logprobs=logprobs) for tag in tags]
            return Discovery(version, tuple(found))

    async def _model(self, name: str, *, logprobs: bool) -> RemoteModel:
        shown = await self._wire.ask("/api/show", _Show, {"model": name})
        able = frozenset[Capability]()
        for word in ["completion"] if shown.capabilities is None else shown.capabilities:
            able |= _CAPABILITIES.get(word, frozenset())
        if shown.capabilities is None and ".Tools" in (shown.template or ""):
            able |= {Capability.TOOLS}
        if logprobs and Capability.CHAT in able:
            able |= {Capability.LOGPROBS}
        return RemoteModel(name, self._context(shown), able)

    def _context(self, shown: _Show) -> int:
        info = shown.model_info or {}
        trained = info.get(f"{info.get('general.architecture')}.context_length")
        configured = _NUM_CTX.search(shown.parameters or "")
        wanted = self.server.context or (int(configured[1]) if configured else _CONTEXT)
        return min(wanted, trained) if isinstance(trained, int) and trained > 0 else wanted

    # Answers.

    def generate(self, request: RemoteRequest) -> AsyncGenerator[Piece | Finish]:
        _refuse_unsupported(request)
        return forms.generate(request, self._attempt, limit_counts=False)

    async def _attempt(
        self, request: RemoteRequest, limit: int | None, left_out: int
    ) -> AsyncGenerator[Piece | Finish]:
        raw = request.options.raw is not None
        path, body = self._body(request, limit)
        writer = writer_of(request)
        began = time.monotonic()
        first_at: float | None = None
        deltas = calls = 0
        last: _Line | None = None
        async with self._wire.stream(path, body, _STREAM) as source, aclosing(source):
            async for text in source:
                if not text:
                    continue
                line = decoded(text, _Line)
                if line.error:
                    raise refusal(error_status(line.error), message_of(text) or "unknown error")
                written, some = "", bool(line.response)
                if raw:
                    written = line.response or ""
                elif (message := line.message) is not None:
                    written = writer.reasoning(message.thinking or "")
                    written += writer.content(message.content)
                    for call in message.tool_calls or ():
                        writer.call(None, f"{calls}", call.function.name, _arguments(call))
                        calls += 1
                    some = bool(message.thinking or message.content or message.tool_calls)
                if some:
                    deltas += 1
                    first_at = first_at or time.monotonic()
                    yield Piece(written, 1, tuple(map(logprob_of, line.logprobs or ())))
                if line.done:
                    last = line
                    break
        if last is None:
            raise Interrupted("the stream ended before the answer was complete")
        cut = last.done_reason == "length"
        if rest := "" if raw else writer.finish(cut=cut):
            yield Piece(rest, max(last.eval_count - deltas, 0))
        now = time.monotonic()
        wait = ((first_at or now) - began) * 1000
        prefill = last.prompt_eval_duration / 1e6
        yield Finish(
            "length" if cut else "stop",
            last.prompt_eval_count,
            None,
            last.eval_count or deltas,
            max(wait - prefill, 0.0) if prefill else 0.0,
            prefill or wait,
            last.eval_duration / 1e6 or (now - (first_at or now)) * 1000,
            left_out,
        )

    def _body(self, request: RemoteRequest, limit: int | None) -> tuple[str, dict[str, Any]]:
        options, params = request.options, request.params
        body: dict[str, Any] = {
            "model": request.model.name,
            "stream": True,
            "options": self._options(request, limit),
            # Otherwise Ollama truncates long prompts, and drops the beginning of long answers.
            "truncate": False,
            "shift": False,
        }
        if params.json_schema is not None:
            body["format"] = params.json_schema
        if params.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": params.top_logprobs}
        if options.raw is not None:
            prompt = options.raw if isinstance(options.raw, str) else ""
            resumed = "" if request.restart else request.resume_text
            return "/api/generate", body | {"raw": True, "prompt": prompt + resumed}
        body["messages"] = [_message_object(one) for one in forms.conversation(request)]
        if tools := forms.tool_objects(options):
            body["tools"] = tools
        if Capability.REASONING in request.model.capabilities:
            if options.think is False:
                body["think"] = False
            elif options.think or options.effort:
                body["think"] = options.effort or True
        return "/api/chat", body

    def _options(self, request: RemoteRequest, limit: int | None) -> dict[str, Any]:
        params = request.params
        fields: dict[str, Any] = {
            "num_ctx": request.model.context_length or self.server.context or _CONTEXT,
            "num_predict": -1 if limit is None else limit,
            "temperature": params.temperature,
            "top_k": params.top_k,
            "top_p": params.top_p,
            "min_p": params.min_p,
            "typical_p": params.typical_p,
            "repeat_penalty": params.repeat_penalty,
            "repeat_last_n": params.repeat_last_n,
            "presence_penalty": params.presence_penalty,
            "frequency_penalty": params.frequency_penalty,
        }
        if params.seed is not None:
            fields["seed"] = params.seed & 0x7FFFFFFF  # a signed number of 32 bits in the engine
        if params.stop:
            fields["stop"] = list(params.stop)
        return fields

    # Vectors and counts.

    async def embed(self, model: RemoteModel, texts: Sequence[str]) -> Vectors:
        if Capability.EMBEDDINGS not in model.capabilities:
            raise Unsupported(refusals.NO_EMBEDDINGS)
        rows: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        tokens = 0
        async with within(self.server.timeouts.total):
            for at in range(0, len(texts), _EMBED_AT_ONCE):
                part = list(texts[at : at + _EMBED_AT_ONCE])
                reply = await self._wire.ask(
                    "/api/embed",
                    _Vectors,
                    {"model": model.name, "input": part, "truncate": False},
                    seconds=self.server.timeouts.first,
                    most=_EMBEDDINGS_MOST,
                )
                if len(reply.embeddings) != len(part):
                    found = len(reply.embeddings)
                    raise Lied(f"the engine returned {found} vectors for {len(part)} texts")
                rows += [np.array(row, dtype=np.float32) for row in reply.embeddings]
                tokens += reply.prompt_eval_count
        return vectors(rows, tokens)

    async def count_tokens(
        self, model: RemoteModel, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> int | None:
        return None


def _refuse_unsupported(request: RemoteRequest) -> None:
    forms.refuse_unsupported(request, frozenset())
    if request.options.tools and request.options.tool_choice not in {"auto", "none"}:
        raise Unsupported(refusals.NO_FORCED_CALL)
    if isinstance(request.options.raw, tuple):
        raise Unsupported(refusals.TEXT_ONLY)


def _message_object(message: ChatMessage) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        found["thinking"] = message.reasoning
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": _object(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        found |= {"tool_name": message.tool_name, "tool_call_id": message.tool_call_id}
    return found


def _object(arguments: str) -> dict[str, Any]:
    """Return arguments as the object that Ollama requires; those of a cut call are empty."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return {}


def _arguments(call: _Call) -> str:
    given = call.function.arguments
    return given if isinstance(given, str) else msgspec.json.encode(given or {}).decode()
