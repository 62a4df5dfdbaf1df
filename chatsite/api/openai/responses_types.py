"""Types of `/v1/responses`; its answers are built in `responses.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatsite.api.core.documents import Citation, Collections
from chatsite.api.openai.types import Effort, Part, Positive, Probability, Sampled, ToolChoice


class Reasoning(msgspec.Struct, frozen=True):
    effort: Effort | None = None


class TextFormat(msgspec.Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema: dict[str, Any] | None = None


class TextOptions(msgspec.Struct, frozen=True):
    format: TextFormat | None = None


class FlatTool(msgspec.Struct, frozen=True):
    type: str
    name: Annotated[str, Meta(min_length=1, max_length=256)] = "tool"
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Item(msgspec.Struct, frozen=True):
    """A message, a function call, the output of a call, or reasoning, by ``type``."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: Any = "{}"
    output: str | list[Part] | None = None
    summary: list[Part] | None = None


class ResponseRequest(Sampled, frozen=True, kw_only=True):
    """A request for a response, with the sampling fields of the other endpoints, as in vLLM."""

    input: str | Annotated[list[Item], Meta(min_length=1)]
    instructions: str | None = None
    tools: Annotated[list[FlatTool], Meta(max_length=128)] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    top_p: Probability | None = None
    max_output_tokens: Positive | None = None
    reasoning: Reasoning | None = None
    text: TextOptions | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    # A prompt stored at OpenAI; refused, since the answer would silently ignore it.
    prompt: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    # Chatsite's own: IDs or names of collections of documents to answer from.
    collections: Collections | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: list[dict[str, Any]]
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, str] | None = None
    instructions: str | None = None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    max_output_tokens: int | None
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    text: dict[str, Any]
    top_logprobs: int = 0
    usage: dict[str, Any] | None = None
    store: bool = False
    previous_response_id: None = None
    # Only for requests with ``collections``.
    citations: list[Citation] | UnsetType = UNSET
