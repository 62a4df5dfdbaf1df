"""Request bodies of Ollama's API. As there, unknown fields are ignored and null means absent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chatsite.api.core.documents import Collections


class Function(msgspec.Struct, frozen=True):
    name: str
    arguments: dict[str, Any] | None = None


class Call(msgspec.Struct, frozen=True):
    function: Function
    id: str | None = None


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ToolFunction(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolItem(msgspec.Struct, frozen=True):
    function: ToolFunction


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None
    name: str | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None

    @property
    def wanted(self) -> str:
        return self.model or self.name or ""


class _Answered(_Model, frozen=True, kw_only=True):
    stream: bool | None = True
    format: Any = None
    think: bool | Literal["low", "medium", "high", "max", ""] | None = None
    truncate: bool | None = True
    logprobs: bool | None = False
    top_logprobs: int | None = None


class Generate(_Answered, frozen=True, kw_only=True):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    # Enough for a few hundred thousand tokens; numbers take far more memory than text.
    context: Annotated[list[int], Meta(max_length=1_000_000)] | None = None
    raw: bool | None = False
    images: list[str] | None = None


class Chat(_Answered, frozen=True, kw_only=True):
    messages: list[Message] | None = None
    tools: list[ToolItem] | None = None
    # Chatsite's own: IDs or names of collections of documents to answer from.
    collections: Collections | None = None


class Embed(_Model, frozen=True, kw_only=True):
    input: Any = None
    truncate: bool | None = True
    dimensions: Annotated[int, Meta(ge=0)] | None = None


class Embedding(_Model, frozen=True, kw_only=True):
    prompt: str | None = None


class Show(_Model, frozen=True, kw_only=True):
    verbose: bool | None = False


class Pull(_Model, frozen=True, kw_only=True):
    insecure: bool | None = False
    stream: bool | None = True


class Copy(msgspec.Struct, frozen=True):
    source: str = ""
    destination: str = ""


class Create(_Model, frozen=True, kw_only=True):
    source: str = msgspec.field(name="from", default="")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    system: str | None = None
    license: str | list[str] | None = None
    parameters: dict[str, Any] | None = None
    messages: list[Message] | None = None
    quantize: str | None = ""
    # Predates the fields above; older clients send it instead.
    modelfile: str | None = None
    stream: bool | None = True
