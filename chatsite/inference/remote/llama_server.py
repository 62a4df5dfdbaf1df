"""The client of llama-server, of llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from chatsite.engine.contract.messages import ChatMessage, PromptOptions
from chatsite.inference.remote import messages as forms
from chatsite.inference.remote.contract import (
    Capability,
    Discovery,
    Refused,
    RemoteModel,
    RemoteRequest,
    TooLong,
)
from chatsite.inference.remote.openai_compatible import Count, OpenAICompatible
from chatsite.inference.remote.transport import within
from chatsite.inference.remote.vllm import prompt_fields, switches

_GENERATES: Final = frozenset(
    {
        Capability.COMPLETION,
        Capability.JSON_SCHEMA,
        Capability.GRAMMAR,
        Capability.LOGPROBS,
        Capability.TOKEN_COUNT,
    }
)
_CHATS: Final = frozenset({Capability.CHAT, Capability.CONTINUATION})
_HELLO: Final = [{"role": "user", "content": "Hello"}]


class _Settings(msgspec.Struct):
    n_ctx: Count = 0


class _Modalities(msgspec.Struct):
    vision: bool = False


class _Props(msgspec.Struct):
    """``chat_template_caps`` is missing before 2026."""

    default_generation_settings: _Settings = msgspec.field(default_factory=_Settings)
    total_slots: Count = 0
    build_info: str = ""
    chat_template: str = ""
    chat_template_caps: dict[str, Any] | None = None
    modalities: _Modalities = msgspec.field(default_factory=_Modalities)


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Prompt(msgspec.Struct):
    prompt: str


class LlamaServer(OpenAICompatible):
    known: ClassVar[frozenset[str]] = frozenset({"ignore_eos", "logit_bias"})
    stops: ClassVar[int | None] = None
    reasoning: ClassVar[str] = "reasoning_content"

    async def healthy(self) -> None:
        await self._wire.check("/health")

    async def discover(self) -> Discovery:
        """Ask for the model that the server holds.

        A server in router mode names many, and loads one when it is asked about it: what each can
        do is assumed.
        """
        async with within(self.server.timeouts.first):
            found = await self._models()
            props = await self._wire.ask("/props", _Props)
            if len(found) != 1:
                able = _GENERATES | _CHATS | {Capability.TOOLS}
                return Discovery(props.build_info, tuple(self._model(one, able) for one in found))
            model = RemoteModel(
                found[0].id,
                self._bounded(props.default_generation_settings.n_ctx or None),
                await self._capabilities(found[0].id, props),
                props.total_slots or None,
            )
            return Discovery(props.build_info, (model,))

    async def _capabilities(self, model: str, props: _Props) -> frozenset[Capability]:
        able = frozenset[Capability]()
        if await self._does("/v1/embeddings", {"model": model, "input": "Hello"}):
            # Started for embeddings, and for text only if the model can both.
            able |= {Capability.EMBEDDINGS}
            text = {"model": model, "prompt": "Hello", "n_predict": 1}
            if not await self._does("/completion", text):
                return able
        able |= _GENERATES
        if not props.chat_template:
            return able
        able |= _CHATS
        caps = props.chat_template_caps
        tools = caps.get("supports_tools") if caps else "tool" in props.chat_template
        if tools:
            able |= {Capability.TOOLS}
        if props.modalities.vision:
            able |= {Capability.VISION}
        if await self._switches_reasoning(model):
            able |= {Capability.REASONING}
        return able

    async def _does(self, path: str, body: dict[str, Any]) -> bool:
        """Try a request, which may have to wait for others."""
        try:
            await self._wire.ask(path, msgspec.Raw, body, seconds=self.server.timeouts.stall)
        except (Refused, TooLong) as error:
            if isinstance(error, Refused) and (error.unauthorized or error.busy):
                raise
            return False
        return True

    async def _switches_reasoning(self, model: str) -> bool:
        prompts = set()
        for think in (True, False):
            body = {
                "model": model,
                "messages": _HELLO,
                "chat_template_kwargs": switches(think),
            }
            try:
                prompts.add((await self._wire.ask("/apply-template", _Prompt, body)).prompt)
            except Refused:
                return False
        return len(prompts) > 1

    def _chat_body(self, request: RemoteRequest) -> dict[str, Any]:
        """Return the fields of a chat. A function can be required only if it is the only one."""
        options = request.options
        if options.tool_choice not in {"auto", "none", "required"}:
            only = tuple(tool for tool in options.tools if tool.name == options.tool_choice)
            options = msgspec.structs.replace(options, tools=only, tool_choice="required")
            request = msgspec.structs.replace(request, options=options)
        return super()._chat_body(request) | prompt_fields(request)

    def _completion_body(self, request: RemoteRequest) -> dict[str, Any]:
        body = super()._completion_body(request)
        if (schema := request.params.json_schema) is not None:
            body.pop("response_format")
            body["json_schema"] = schema
        return body

    def _prompt(self, request: RemoteRequest) -> Any:
        raw = request.options.raw
        if isinstance(raw, tuple):
            resumed = () if request.restart or not request.resume_text else (request.resume_text,)
            return [*raw, *resumed]
        return super()._prompt(request)

    def _sampling(self, request: RemoteRequest) -> dict[str, Any]:
        params = request.params
        fields = super()._sampling(request) | {
            "top_k": params.top_k,
            "min_p": params.min_p,
            "typical_p": params.typical_p,
            "repeat_penalty": params.repeat_penalty,
            "repeat_last_n": params.repeat_last_n,
            "cache_prompt": True,
            "timings_per_token": True,
        }
        if params.logit_bias:
            fields["logit_bias"] = [[token, bias] for token, bias in params.logit_bias]
        if params.ignore_eos:
            fields["ignore_eos"] = True
        if params.grammar:
            fields["grammar"] = params.grammar
        return fields

    async def count_tokens(
        self, model: RemoteModel, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> int | None:
        if Capability.TOKEN_COUNT not in model.capabilities:
            return None
        content: Any = options.raw if isinstance(options.raw, str) else list(options.raw or ())
        if options.raw is None:
            request = RemoteRequest(model, tuple(messages), options=options)
            body = {
                "model": model.name,
                "messages": forms.message_objects(messages, reasoning=self.reasoning),
            } | prompt_fields(request)
            if tools := forms.tool_objects(options):
                body["tools"] = tools
            content = (await self._wire.ask("/apply-template", _Prompt, body)).prompt
        asked = {"model": model.name, "content": content, "add_special": True}
        return len((await self._wire.ask("/tokenize", _Tokens, asked)).tokens)
