"""The client of vLLM.

Names of fields are those of vLLM 0.6 to 0.32; fields that a version does not know are ignored by
it. `cache_salt` separates the prefix caches of users.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from chatsite.engine.contract.messages import ChatMessage, PromptOptions
from chatsite.inference.remote import messages as forms
from chatsite.inference.remote import refusals
from chatsite.inference.remote.contract import (
    Capability,
    Discovery,
    Egress,
    Refused,
    RemoteModel,
    RemoteRequest,
    Server,
    TooLong,
    Unsupported,
)
from chatsite.inference.remote.openai_compatible import Count, OpenAICompatible
from chatsite.inference.remote.transport import Wire, within

_GENERATES: Final = frozenset(
    {
        Capability.COMPLETION,
        Capability.JSON_SCHEMA,
        Capability.GRAMMAR,
        Capability.LOGPROBS,
        Capability.TOKEN_COUNT,
    }
)
# The first versions with `cache_salt`, and with `structured_outputs` in place of `guided_grammar`.
_SALTED: Final = (0, 9)
_STRUCTURED: Final = (0, 11)
_NO_TOOL: Final = {
    "type": "function",
    "function": {"name": "none", "parameters": {"type": "object", "properties": {}}},
}
_HELLO: Final = [{"role": "user", "content": "Hello"}]


class _Version(msgspec.Struct):
    version: str = ""


class _Count(msgspec.Struct):
    count: Count


class _Tokens(msgspec.Struct):
    tokens: list[int]


class VLLM(OpenAICompatible):
    known: ClassVar[frozenset[str]] = frozenset(
        {"stop_tokens", "ignore_eos", "min_tokens", "logit_bias"}
    )
    stops: ClassVar[int | None] = None
    reasoning: ClassVar[str] = "reasoning_content"

    def __init__(self, server: Server, egress: Egress, wire: Wire | None = None) -> None:
        super().__init__(server, egress, wire)
        self._version: tuple[int, ...] | None = None

    async def healthy(self) -> None:
        await self._wire.check("/health")

    async def discover(self) -> Discovery:
        """Ask each base model what it does; its adapters do the same."""
        async with within(self.server.timeouts.first):
            version = await self._ask_version()
            found = await self._models()
            able = {
                model.id: await self._capabilities(model.id) for model in found if not model.parent
            }
        return Discovery(
            version,
            tuple(
                self._model(model, able.get(model.parent or model.id, frozenset()))
                for model in found
            ),
        )

    async def _ask_version(self) -> str:
        found = (await self._wire.ask("/version", _Version)).version
        numbers = re.match(r"(\d+)\.(\d+)", found)
        # Builds from source may have no number, and are newer than any release.
        self._version = tuple(map(int, numbers.groups())) if numbers else (999,)
        if self._version == (0, 1) and "dev" in found:
            self._version = (999,)
        return found

    async def _capabilities(self, model: str) -> frozenset[Capability]:
        """Try what can't be asked: one token of a chat, a vector of one word."""
        chat = await self._chats(model)
        if chat is not None:
            able = _GENERATES | chat
            if self._version is not None and self._version >= _SALTED:
                able |= {Capability.CACHE_ISOLATION}
            if Capability.CHAT in chat and await self._switches_reasoning(model):
                able |= {Capability.REASONING}
            return able
        try:
            body = {"model": model, "input": "Hello", "encoding_format": "base64"}
            await self._try("/v1/embeddings", body)
        except Refused:
            return frozenset()
        return frozenset({Capability.EMBEDDINGS})

    async def _chats(self, model: str) -> frozenset[Capability] | None:
        """Return what chats can do; nothing for a base model; None if it doesn't generate text."""
        chat = {"model": model, "messages": _HELLO, "max_tokens": 1, "temperature": 0}
        able = frozenset({Capability.CHAT, Capability.CONTINUATION})
        try:
            tools = chat | {"tools": [_NO_TOOL], "tool_choice": "auto"}
            await self._try("/v1/chat/completions", tools)
            return able | {Capability.TOOLS}
        except (Refused, TooLong) as error:
            _raise_unless_by_request(error)
        try:
            await self._try("/v1/chat/completions", chat)
            return able
        except (Refused, TooLong) as error:
            _raise_unless_by_request(error)
        try:
            text = {"model": model, "prompt": "Hello", "max_tokens": 1}
            await self._try("/v1/completions", text)
            return frozenset()
        except (Refused, TooLong) as error:
            _raise_unless_by_request(error)
        return None

    async def _try(self, path: str, body: dict[str, Any]) -> None:
        """Make a request that may have to wait for others."""
        await self._wire.ask(path, msgspec.Raw, body, seconds=self.server.timeouts.stall)

    async def _switches_reasoning(self, model: str) -> bool:
        """Return whether the prompt depends on the switch of reasoning."""
        body = {"model": model, "messages": _HELLO, "add_generation_prompt": True}
        prompts = []
        for think in (True, False):
            switch = {"chat_template_kwargs": switches(think)}
            try:
                prompts.append((await self._wire.ask("/tokenize", _Tokens, body | switch)).tokens)
            except Refused:
                return False
        return prompts[0] != prompts[1]

    def _stream_options(self) -> dict[str, Any]:
        return {"include_usage": True, "continuous_usage_stats": True}

    def _chat_body(self, request: RemoteRequest) -> dict[str, Any]:
        body = super()._chat_body(request) | prompt_fields(request)
        if request.options.tool_choice not in {"auto", "none"}:
            # Otherwise a call that is required is constrained to JSON, not to the schema.
            for tool in body.get("tools", ()):
                tool["function"]["strict"] = True
        if request.salt:
            body["cache_salt"] = request.salt
        return body

    def _completion_body(self, request: RemoteRequest) -> dict[str, Any]:
        body = super()._completion_body(request)
        if request.salt:
            body["cache_salt"] = request.salt
        return body

    def _prompt(self, request: RemoteRequest) -> Any:
        raw = request.options.raw
        if isinstance(raw, tuple) and not request.resume_text:
            if any(isinstance(part, str) for part in raw):
                raise Unsupported(refusals.TEXT_ONLY)
            return list(raw)
        return super()._prompt(request)

    def _sampling(self, request: RemoteRequest) -> dict[str, Any]:
        params = request.params
        fields = super()._sampling(request) | {"top_k": params.top_k, "min_p": params.min_p}
        if params.repeat_penalty != 1:
            fields["repetition_penalty"] = params.repeat_penalty
        if params.stop_tokens:
            fields["stop_token_ids"] = list(params.stop_tokens)
        if params.ignore_eos:
            fields["ignore_eos"] = True
        if params.min_tokens:
            fields["min_tokens"] = params.min_tokens
        if params.grammar:
            fields |= self._grammar(params.grammar)
        return fields

    def _grammar(self, grammar: str) -> dict[str, Any]:
        """Return both fields while the version is unknown, since each ignores the other."""
        old = {"guided_grammar": grammar}
        new = {"structured_outputs": {"grammar": grammar}}
        if self._version is None:
            return old | new
        return new if self._version >= _STRUCTURED else old

    async def count_tokens(
        self, model: RemoteModel, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> int | None:
        if Capability.TOKEN_COUNT not in model.capabilities:
            return None
        if options.raw is not None:
            if isinstance(options.raw, tuple):
                return len(options.raw)
            body: dict[str, Any] = {"model": model.name, "prompt": options.raw}
        else:
            request = RemoteRequest(model, tuple(messages), options=options)
            body = {
                "model": model.name,
                "messages": forms.message_objects(messages, reasoning=self.reasoning),
                "add_generation_prompt": True,
            } | prompt_fields(request)
            if tools := forms.tool_objects(options):
                body["tools"] = tools
        return (await self._wire.ask("/tokenize", _Count, body)).count


def switches(think: bool) -> dict[str, Any]:
    """Return the variables by which templates switch reasoning: of Qwen3, and of DeepSeek."""
    return {"enable_thinking": think, "thinking": think}


def prompt_fields(request: RemoteRequest) -> dict[str, Any]:
    """Return the fields of continuation and reasoning, which llama-server has taken over."""
    options = request.options
    fields: dict[str, Any] = {}
    if forms.continues(request):
        fields |= {"add_generation_prompt": False, "continue_final_message": True}
    if options.think is not None:
        fields["chat_template_kwargs"] = switches(options.think)
    return fields


def _raise_unless_by_request(error: Refused | TooLong) -> None:
    """Raise an error that says nothing about the model: no key, overload, failure."""
    about_model = {400, 404, 405, 422, 501}
    if isinstance(error, Refused) and error.status not in about_model:
        raise error
