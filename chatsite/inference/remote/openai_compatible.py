"""The client of OpenAI-compatible servers, and the base of those of vLLM and llama-server.

A server of this kind gets only fields that OpenAI documents, since some refuse others.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Final

import msgspec
import numpy as np
from msgspec import Meta

from chatsite.engine.contract.messages import ChatMessage, PromptOptions, TokenLogprob
from chatsite.inference.remote import messages, refusals
from chatsite.inference.remote.canonical import CanonicalWriter
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
    Stalled,
    Unsupported,
    Vectors,
)
from chatsite.inference.remote.lines import events
from chatsite.inference.remote.transport import (
    Wire,
    decoded,
    error_status,
    message_of,
    refusal,
    within,
)

Count = Annotated[int, Meta(ge=0, le=2**40)]

_EMBED_AT_ONCE: Final = 64
_EMBEDDINGS_MOST: Final = 64 << 20
_MODELS_MOST: Final = 1000


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_CallDelta] | None = None


class LogprobItem(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[Annotated[int, Meta(ge=0, le=255)]] | None = None
    top_logprobs: list[LogprobItem] | None = None


class _Logprobs(msgspec.Struct):
    """Of chats (``content``), or of completions (the others)."""

    content: list[LogprobItem] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Timings(msgspec.Struct):
    """Of llama-server; ``cache_n`` of the prompt's tokens were not among ``prompt_n``."""

    cache_n: int = -1
    prompt_n: Count = 0
    prompt_ms: float = 0.0
    predicted_n: Count = 0
    predicted_ms: float = 0.0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    timings: _Timings | None = None


class Model(msgspec.Struct):
    id: str
    parent: str | None = None  # vLLM: the base model of an adapter
    max_model_len: Count | None = None  # vLLM
    context_length: Count | None = None
    max_context_length: Count | None = None
    context_window: Count | None = None


class _Models(msgspec.Struct):
    data: list[Model]


class _Embedding(msgspec.Struct):
    embedding: str | list[float]
    index: Count = 0


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]
    usage: _Usage | None = None


class Answer:
    """The text and figures of one answer, from its chunks."""

    def __init__(self, writer: CanonicalWriter, *, raw: bool) -> None:
        self.reason = ""
        self._writer = writer
        self._raw = raw
        self._began = time.monotonic()
        self._first_at: float | None = None
        self._usage = _Usage()
        self._timings: _Timings | None = None
        self._deltas = 0  # with text, each of which is a token where the engine doesn't count
        self._reported = 0  # tokens in pieces

    def take(self, chunk: _Chunk) -> Piece | None:
        """Return the text of a chunk, if it has any."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.timings is not None:
            self._timings = chunk.timings
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        text, some = self._text_of(choice)
        self._deltas += some
        if choice.finish_reason:
            self.reason = choice.finish_reason
        logprobs = tuple(_logprobs(choice.logprobs))
        if not (some or logprobs):  # a token may be only a part of a character
            return None
        if self._first_at is None:
            self._first_at = time.monotonic()
        tokens = max(self.completion_tokens - self._reported, 0)
        self._reported += tokens
        return Piece(text, tokens, logprobs)

    def _text_of(self, choice: _Choice) -> tuple[str, bool]:
        """Return canonical text, and whether the chunk has any output."""
        if choice.text is not None:
            text = choice.text if self._raw else self._writer.content(choice.text)
            return text, bool(choice.text)
        delta = choice.delta
        if delta is None:
            return "", False
        reasoning, content = _parts_of(delta)
        text = self._writer.reasoning(reasoning) + self._writer.content(content)
        for call in delta.tool_calls or ():
            function = call.function or _Function()
            given = function.arguments
            arguments = given if isinstance(given, str) else ""
            if isinstance(given, dict):
                arguments = msgspec.json.encode(given).decode()
            self._writer.call(call.index, call.id or "", function.name or "", arguments)
        return text, bool(reasoning or content or delta.tool_calls)

    @property
    def completion_tokens(self) -> int:
        if self._usage.completion_tokens:
            return self._usage.completion_tokens
        if self._timings is not None and self._timings.predicted_n:
            return self._timings.predicted_n
        return self._deltas

    def finish(self, left_out: int = 0) -> Iterator[Piece | Finish]:
        """Yield the rest of the text and the end."""
        cut = self.reason == "length"
        tokens = max(self.completion_tokens - self._reported, 0)
        if rest := "" if self._raw else self._writer.finish(cut=cut):
            yield Piece(rest, tokens)
        now = time.monotonic()
        first = now if self._first_at is None else self._first_at
        prefill, decode = (first - self._began) * 1000, (now - first) * 1000
        queue, cached = 0.0, None
        details = self._usage.prompt_tokens_details
        if details is not None:
            cached = details.cached_tokens
        prompt = self._usage.prompt_tokens or 0
        if (timings := self._timings) is not None:
            queue = max(prefill - timings.prompt_ms, 0.0)
            prefill, decode = timings.prompt_ms, timings.predicted_ms
            if timings.cache_n >= 0:
                cached = timings.cache_n
                prompt = prompt or timings.prompt_n + timings.cache_n
        yield Finish(
            "length" if cut else "stop",
            prompt,
            cached,
            self.completion_tokens,
            queue,
            prefill,
            decode,
            left_out,
        )


class OpenAICompatible:
    """An OpenAI-compatible server of unknown make.

    It can't be asked what its models can do: chats and calls are assumed, the rest is configured.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CHAT, Capability.TOOLS})
    # Of the sampling parameters that can't be left out, those that the engine takes.
    known: ClassVar[frozenset[str]] = frozenset({"logit_bias"})
    stops: ClassVar[int | None] = 4
    # The field for the reasoning of earlier answers.
    reasoning: ClassVar[str] = ""

    def __init__(self, server: Server, egress: Egress, wire: Wire | None = None) -> None:
        self.server = server
        self._wire = wire or Wire(server, egress)

    async def close(self) -> None:
        await self._wire.close()

    async def healthy(self) -> None:
        await self._wire.ask("/v1/models", msgspec.Raw)

    async def discover(self) -> Discovery:
        async with within(self.server.timeouts.first):
            found = await self._models()
            return Discovery("", tuple(self._model(one) for one in found))

    async def _models(self) -> list[Model]:
        found = await self._wire.ask("/v1/models", _Models)
        if len(found.data) > _MODELS_MOST:
            raise Lied(f"the engine names more than {_MODELS_MOST} models")
        return found.data

    def _model(
        self, model: Model, capabilities: frozenset[Capability] | None = None
    ) -> RemoteModel:
        own = (
            model.max_model_len
            or model.context_length
            or model.max_context_length
            or model.context_window
        )
        able = self.capabilities if capabilities is None else capabilities
        return RemoteModel(model.id, self._bounded(own), able)

    def _bounded(self, context: int | None) -> int | None:
        limits = [limit for limit in (context, self.server.context) if limit]
        return min(limits) if limits else None

    # Answers.

    def generate(self, request: RemoteRequest) -> AsyncGenerator[Piece | Finish]:
        messages.refuse_unsupported(request, self.known, stops=self.stops)
        return messages.generate(request, self._attempt, limit_counts=True)

    async def _attempt(
        self, request: RemoteRequest, limit: int | None, left_out: int
    ) -> AsyncGenerator[Piece | Finish]:
        raw = request.options.raw is not None
        path = "/v1/completions" if raw else "/v1/chat/completions"
        body = self._completion_body(request) if raw else self._chat_body(request)
        body |= self._sampling(request) | {
            "stream": True,
            "stream_options": self._stream_options(),
        }
        if limit is not None or raw:
            # A completion without the field is limited to 16 tokens.
            body["max_tokens"] = limit
        answer = Answer(writer_of(request), raw=raw)
        try:
            async with (
                self._wire.stream(path, body, "text/event-stream") as source,
                aclosing(events(source)) as found,
            ):
                async for event in found:
                    if event.data == b"[DONE]":
                        break
                    piece = answer.take(_chunk(event.name, event.data))
                    if piece is not None:
                        yield piece
        except (Interrupted, Stalled):
            # After the reason only figures follow.
            if not answer.reason:
                raise
        if answer.reason in {"", "abort", "error"}:
            raise Interrupted("the stream ended before the answer was complete")
        for item in answer.finish(left_out):
            yield item

    def _stream_options(self) -> dict[str, Any]:
        return {"include_usage": True}

    def _chat_body(self, request: RemoteRequest) -> dict[str, Any]:
        options = request.options
        body: dict[str, Any] = {
            "model": request.model.name,
            "messages": messages.message_objects(
                messages.conversation(request), reasoning=self.reasoning
            ),
        }
        if tools := messages.tool_objects(options):
            body |= {"tools": tools, "tool_choice": messages.tool_choice(options)}
        if options.effort:
            body["reasoning_effort"] = options.effort
        if (schema := request.params.json_schema) is not None:
            body["response_format"] = response_format(schema)
        if request.params.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.params.top_logprobs}
        return body

    def _completion_body(self, request: RemoteRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": request.model.name, "prompt": self._prompt(request)}
        if (schema := request.params.json_schema) is not None:
            body["response_format"] = response_format(schema)
        if request.params.top_logprobs is not None:
            body["logprobs"] = request.params.top_logprobs
        return body

    def _prompt(self, request: RemoteRequest) -> Any:
        raw = request.options.raw
        if not isinstance(raw, str):
            raise Unsupported(refusals.TEXT_ONLY)
        return raw if request.restart else raw + request.resume_text

    def _sampling(self, request: RemoteRequest) -> dict[str, Any]:
        params = request.params
        fields: dict[str, Any] = {"temperature": params.temperature, "top_p": params.top_p}
        if params.presence_penalty:
            fields["presence_penalty"] = params.presence_penalty
        if params.frequency_penalty:
            fields["frequency_penalty"] = params.frequency_penalty
        if params.seed is not None:
            fields["seed"] = params.seed
        if params.stop:
            fields["stop"] = list(params.stop)
        if params.logit_bias:
            fields["logit_bias"] = {str(token): bias for token, bias in params.logit_bias}
        return fields

    # Vectors and counts.

    async def embed(self, model: RemoteModel, texts: Sequence[str]) -> Vectors:
        if Capability.EMBEDDINGS not in model.capabilities:
            raise Unsupported(refusals.NO_EMBEDDINGS)
        found: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        tokens = 0
        async with within(self.server.timeouts.total):
            for at in range(0, len(texts), _EMBED_AT_ONCE):
                part = list(texts[at : at + _EMBED_AT_ONCE])
                body = {"model": model.name, "input": part, "encoding_format": "base64"}
                reply = await self._wire.ask(
                    "/v1/embeddings",
                    _Embeddings,
                    body,
                    seconds=self.server.timeouts.first,
                    most=_EMBEDDINGS_MOST,
                )
                rows = sorted(reply.data, key=lambda row: row.index)
                if [row.index for row in rows] != list(range(len(part))):
                    raise Lied(f"the engine returned {len(rows)} vectors for {len(part)} texts")
                found += [_vector(row.embedding) for row in rows]
                tokens += (reply.usage.prompt_tokens or 0) if reply.usage else 0
        return vectors(found, tokens)

    async def count_tokens(
        self, model: RemoteModel, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> int | None:
        return None


def writer_of(request: RemoteRequest) -> CanonicalWriter:
    owed = "" if request.restart else messages.split_owed(request.resume_text)[1]
    return CanonicalWriter(request.resume_text, restart=request.restart, owed=owed)


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the format for a JSON schema; JSON mode is the schema of any object."""
    if schema == {"type": "object"}:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def vectors(rows: Sequence[np.ndarray[Any, np.dtype[np.float32]]], tokens: int) -> Vectors:
    """Return vectors of one length, normalized. Raises `Lied` if they are not numbers."""
    sizes = {len(row) for row in rows}
    if len(sizes) > 1 or 0 in sizes:
        raise Lied("the engine returned vectors of different or no length")
    if not rows:
        return Vectors(b"", 0, tokens)
    table = np.stack(rows)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise Lied("the engine returned a vector that is not finite")
    table = table / np.where(norms > 0, norms, 1)
    return Vectors(table.astype("<f4").tobytes(), table.shape[1], tokens)


def _vector(value: str | list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    if isinstance(value, list):
        return np.array(value, dtype=np.float32)
    try:
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
    except ValueError as error:
        raise Lied("the engine returned a vector that is not base64 of 32-bit numbers") from error


def _chunk(name: str, data: bytes) -> _Chunk:
    """Decode an event. Raises the error that it reports, if it does."""
    if name == "error":
        raise refusal(_status_in(data), message_of(data) or "the engine reported an error")
    chunk = decoded(data, _Chunk)
    if chunk.error:
        raise refusal(error_status(chunk.error), message_of(data) or "the engine reported an error")
    return chunk


def _status_in(data: bytes) -> int:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return error_status(None)
    return error_status(value.get("error", value) if isinstance(value, dict) else None)


def _parts_of(delta: _Delta) -> tuple[str, str]:
    """Return reasoning and content; Mistral's servers mark parts of a list by type."""
    reasoning = delta.reasoning_content or delta.reasoning or ""
    if not isinstance(delta.content, list):
        return reasoning, delta.content or ""
    content = ""
    for part in delta.content:
        thinking = part.get("thinking")
        if isinstance(thinking, list):
            reasoning += "".join(
                str(one.get("text", "")) for one in thinking if isinstance(one, dict)
            )
        elif isinstance(text := part.get("text"), str):
            content += text
    return reasoning, content


def _logprobs(found: _Logprobs | None) -> Iterator[TokenLogprob]:
    if found is None:
        return
    for item in found.content or ():
        yield logprob_of(item)
    for at, token in enumerate(found.tokens or ()):
        values, tops = found.token_logprobs or [], found.top_logprobs or []
        value = values[at] if at < len(values) else None
        top = (tops[at] if at < len(tops) else None) or {}
        alternatives = tuple(
            (-1, text.encode(), other) for text, other in top.items() if other is not None
        )
        yield TokenLogprob(-1, token.encode(), math.nan if value is None else value, alternatives)


def logprob_of(item: LogprobItem) -> TokenLogprob:
    top = tuple((-1, _piece(one), one.logprob) for one in item.top_logprobs or ())
    return TokenLogprob(-1, _piece(item), item.logprob, top)


def _piece(item: LogprobItem) -> bytes:
    return bytes(item.bytes) if item.bytes is not None else item.token.encode()
