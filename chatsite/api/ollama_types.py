"""Bodies of Ollama's requests. Fields that are not here are passed over, as Ollama does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Top = Annotated[int, Meta(ge=0, le=20)]


class Function(msgspec.Struct, frozen=True):
    name: str
    arguments: dict[str, Any] = {}
    index: int = 0


class Call(msgspec.Struct, frozen=True):
    function: Function
    id: str = ""


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str = ""
    thinking: str = ""
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str = ""
    tool_call_id: str = ""


class ToolFunction(msgspec.Struct, frozen=True):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class ToolItem(msgspec.Struct, frozen=True):
    function: ToolFunction


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    model: str = ""
    name: str = ""
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None

    @property
    def wanted(self) -> str:
        return self.model or self.name


class _Answered(_Model, frozen=True, kw_only=True):
    stream: bool | None = True
    format: Any = None
    think: bool | Literal["low", "medium", "high", "max", ""] | None = None
    truncate: bool | None = True
    logprobs: bool | None = False
    top_logprobs: Top = 0


class Generate(_Answered, frozen=True, kw_only=True):
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] | None = None
    raw: bool | None = False
    images: list[str] | None = None


class Chat(_Answered, frozen=True, kw_only=True):
    messages: list[Message] | None = None
    tools: list[ToolItem] | None = None


class Embed(_Model, frozen=True, kw_only=True):
    input: str | list[str] | None = None
    truncate: bool | None = True
    dimensions: Annotated[int, Meta(ge=0)] = 0


class Embedding(_Model, frozen=True, kw_only=True):
    prompt: str = ""


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
    stream: bool | None = True
