"""Types of OpenAI's API: the only source for decoding, encoding and the OpenAPI schema.

Unknown fields are ignored. Clients write null for absent fields, so optional fields accept it.
Names and defaults are OpenAI's. The fields after ``# llama-server and vLLM`` are theirs, as are
those of `Foreign`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatsite.api.core.documents import Citation, Collections
from chatsite.api.core.foreign import Foreign

Positive = Annotated[int, Meta(ge=1, le=10_000_000)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
StopText = Annotated[str, Meta(max_length=256)]
# Validated by `convert.effort`, which also accepts "auto" and "".
Effort = str


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class JsonSchema(msgspec.Struct, frozen=True):
    schema: dict[str, Any] | None = None
    name: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """OpenAI's response formats, and TGI's ``json``, ``regex`` and ``grammar`` with a ``value``."""

    type: Literal["text", "json_object", "json_schema", "json", "regex", "grammar"]
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None
    value: str | dict[str, Any] | None = None


class TemplateOptions(msgspec.Struct, frozen=True):
    enable_thinking: bool | None = None
    thinking: bool | None = None
    reasoning_effort: Effort | None = None


class Sampled(Foreign, frozen=True, kw_only=True):
    """Fields of all endpoints that generate text."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # -1 means no limit, as in llama-server.
    max_tokens: Annotated[int, Meta(ge=-1, le=10_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=5)] | None = None
    top_p: Probability | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=16)] | None = None
    seed: int | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    # An object as in OpenAI, or llama-server's list of pairs.
    logit_bias: dict[str, float | str | bool] | list[list[Any]] | None = None
    user: str | None = None
    # llama-server and vLLM
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Probability | None = None
    typical_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    # Chatsite's own: ends an answer that repeats itself, with the finish reason `length`.
    stop_repetition: bool | None = None


# Chat.


class Part(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None
    refusal: str | None = None


class Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class FunctionIn(msgspec.Struct, frozen=True):
    """A function call; ``arguments`` is JSON text as in OpenAI, or the value itself."""

    name: str
    arguments: Any = None


class CallIn(msgspec.Struct, frozen=True):
    function: FunctionIn
    id: str | None = None


class MessageIn(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[CallIn] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    # Mistral's and DeepSeek's: continue the last message, an answer.
    prefix: bool | None = None


class FunctionSpec(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolSpec(msgspec.Struct, frozen=True):
    function: FunctionSpec
    type: Literal["function"] = "function"


class FunctionName(msgspec.Struct, frozen=True):
    name: str


class AllowedTool(msgspec.Struct, frozen=True):
    """A tool by its name, nested as in chat or flat as in responses."""

    function: FunctionName | None = None
    name: str | None = None
    type: str = "function"


class AllowedTools(msgspec.Struct, frozen=True):
    tools: list[AllowedTool] = []
    mode: str = "auto"


class ToolChoice(msgspec.Struct, frozen=True):
    """Any object that clients send as ``tool_choice``; `convert.choose` resolves it."""

    type: str = "function"
    function: FunctionName | None = None
    name: str | None = None
    allowed_tools: AllowedTools | None = None
    tools: list[AllowedTool] | None = None
    mode: str | None = None


class ChatRequest(Sampled, frozen=True, kw_only=True):
    messages: Annotated[list[MessageIn], Meta(min_length=1)]
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[ToolSpec], Meta(max_length=128)] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    # Predates tools; refused, since answers in this form are not supported.
    functions: list[Any] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    # vLLM's and llama-server's: whether to continue the last message, an answer.
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    # Chatsite's own: IDs or names of collections of documents to answer from.
    collections: Collections | None = None


class PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails = PromptDetails()
    completion_tokens_details: CompletionDetails = CompletionDetails()


class TopLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[ContentLogprob]
    refusal: None = None


class Call(msgspec.Struct, frozen=True):
    id: str
    function: Function
    type: Literal["function"] = "function"


class MessageOut(msgspec.Struct, frozen=True):
    """An answer. Reasoning has both names that clients look for, or is absent."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[Call] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: MessageOut
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: ChatLogprobs | None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    timings: dict[str, float]
    # Only for requests with ``collections``. A streamed answer has them in its last chunk.
    citations: list[Citation] | UnsetType = UNSET


# Completions.


class PromptText(msgspec.Struct, frozen=True):
    """A text, wrapped as in llama-server's API."""

    prompt_string: str | None = None
    content: str | None = None


# A text, or tokens which may be mixed with texts, or a list of either.
Prompts = str | PromptText | list[str | int | PromptText | list[int | str]]


class CompletionRequest(Sampled, frozen=True, kw_only=True):
    prompt: Prompts
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Log probabilities; null (NaN here) for the first token of an echoed prompt."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    timings: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    prompt_progress: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


# Embeddings.


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    input: (
        str
        | PromptText
        | Annotated[
            list[str | int | PromptText | list[int | str]], Meta(min_length=1, max_length=2048)
        ]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    # vLLM's and llama-server's: -1 truncates long inputs; vectors always have length 1.
    truncate_prompt_tokens: Literal[-1] | None = None
    normalize: bool | None = None
    embd_normalize: Literal[2] | None = None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["embedding"] = "embedding"
    embedding: str | list[float]
    index: int


class EmbeddingUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


# Models and errors.


class Model(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    # Any of chat, completion, tools, thinking, insert, embedding, rerank.
    capabilities: list[str] = []


class Models(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]


class ErrorBody(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(msgspec.Struct, frozen=True):
    error: ErrorBody
