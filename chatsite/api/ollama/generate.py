"""Ollama's `/api/generate`, `/api/chat`, `/api/embed` and `/api/embeddings`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http, loading
from chatsite.api.core.documents import with_documents
from chatsite.api.core.fan_out import GenerationRequest, ask_all
from chatsite.api.core.http import BadField
from chatsite.api.ollama import common, context
from chatsite.api.ollama import types as t
from chatsite.api.ollama.answers import Chatted, Generated, answer
from chatsite.api.ollama.common import NoSuchModel, endpoint
from chatsite.api.openai.embeddings import each
from chatsite.engine.contract.messages import (
    ChatMessage,
    Embed,
    PromptOptions,
    Role,
    Tool,
    ToolCall,
)
from chatsite.errors import ChatsiteError, EngineFailed, ModelMissing
from chatsite.hosts import commands
from chatsite.policy.decisions import ModelNotAllowed
from chatsite.stream.entries import End, Vectors
from models_admin import catalogue, facts
from models_admin.config import custom, go_template, options
from models_admin.models import ModelName

_generate = msgspec.json.Decoder(t.Generate)
_chat = msgspec.json.Decoder(t.Chat)
_embed = msgspec.json.Decoder(t.Embed)
_embedding = msgspec.json.Decoder(t.Embedding)
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class TemplateNotAllowed(ChatsiteError):
    code = "template_not_allowed"
    status = 403
    message = _(
        "Only users who may add models can send a chat template. Leave out “template”, or ask an "
        "administrator for a model with this template."
    )


@endpoint("chat", "POST")
async def generate(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _generate)
    model = await _model(caller, body)
    if body.images:
        raise BadField(_("images: vision models are not supported."), param="images")
    if body.raw and (body.template or body.system or body.context):
        raise BadField("raw mode does not support template, system, or context")
    # A template is code that runs beside all users' prompts, so without permission it is not even
    # parsed.
    if body.template and not await sync_to_async(common.may)(caller, "add"):
        raise TemplateNotAllowed
    if not body.prompt and not body.suffix:
        return await _load(request, body, caller, model, {"response": ""})
    said = _params(body)
    messages: list[ChatMessage] = []
    if body.raw or body.suffix:
        asked = PromptOptions(raw=body.prompt or "", suffix=body.suffix or "")
    else:
        asked = options_of(body, template=go_template.as_jinja(body.template or ""))
        if body.context:
            messages = await asyncio.to_thread(context.unpack, body.context)
        if body.system:
            rest = messages[1:] if messages and messages[0].role == "system" else messages
            messages = [ChatMessage("system", body.system), *rest]
        messages.append(ChatMessage("user", body.prompt or ""))
    stay = await common.stay(caller, model, body.keep_alive)
    wanted = GenerationRequest(
        model.name, messages, options=asked, said=said, keep_alive=stay, param="prompt"
    )
    form = partial(Generated, body.wanted, wanted)
    return await answer(caller, wanted, form, streamed=body.stream is not False)


@endpoint("chat", "POST")
async def chat(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _chat)
    if not body.wanted:
        raise BadField("model is required")
    model = await _model(caller, body)
    if not body.messages:
        shape = {"message": {"role": "assistant", "content": ""}}
        return await _load(request, body, caller, model, shape)
    tools = tuple(
        Tool(one.function.name, one.function.description or "", one.function.parameters or {})
        for one in body.tools or ()
    )
    said = [_message(message) for message in body.messages]
    messages, citations = await with_documents(caller, model.name, said, body.collections)
    wanted = GenerationRequest(
        model.name,
        messages,
        options=options_of(body, tools=tools, continued=_continued(messages)),
        said=_params(body),
        keep_alive=await common.stay(caller, model, body.keep_alive),
    )
    form = partial(Chatted, body.wanted, wanted, citations=citations)
    return await answer(caller, wanted, form, streamed=body.stream is not False)


async def _model(caller: Caller, body: t.Generate | t.Chat | t.Embed | t.Embedding) -> ModelName:
    """Return the model of a request.

    Raises `NoSuchModel`, and `BadField` if the request wants reasoning and the model has none.
    """

    def found() -> ModelName:
        model = catalogue.find(body.wanted, caller.user)
        if isinstance(body, t.Generate | t.Chat) and body.think and not _thinks(model):
            raise BadField(f'"{body.wanted}" does not support thinking', param="think")
        return model

    try:
        return await sync_to_async(found)()
    except (ModelMissing, ModelNotAllowed):
        raise NoSuchModel(body.wanted) from None


def _thinks(model: ModelName) -> bool:
    """Return whether the model may reason; with a custom template only the engine can tell."""
    return "thinking" in facts.nature(model.version).abilities or bool(custom.of(model).template)


def _params(body: t.Generate | t.Chat) -> dict[str, Any]:
    """Return the fields of `SamplingParams` that the request sets."""
    said = options.sampling(body.options or {})
    if schema := common.schema(body.format):
        said["json_schema"] = schema
    if body.top_logprobs is not None and not 0 <= body.top_logprobs <= 20:
        raise BadField("top_logprobs must be between 0 and 20", param="top_logprobs")
    if body.logprobs:
        said["top_logprobs"] = body.top_logprobs or 0
    return said


def options_of(
    body: t.Generate | t.Chat,
    *,
    tools: tuple[Tool, ...] = (),
    template: str = "",
    continued: bool = False,
) -> PromptOptions:
    return PromptOptions(
        tools=tools,
        think=None if body.think is None else bool(body.think),
        effort=body.think if isinstance(body.think, str) else "",
        continue_final=continued,
        overflow="error" if body.truncate is False else "keep_latest",
        template=template,
    )


def _continued(messages: Sequence[ChatMessage]) -> bool:
    """Return whether the last message is an answer, which is then continued as in Ollama."""
    return messages[-1].role == "assistant" and not messages[-1].tool_calls


def _message(message: t.Message) -> ChatMessage:
    role = _ROLES.get(message.role.lower())
    if role is None:
        raise BadField(f'messages: invalid role "{message.role}"', param="messages")
    if message.images:
        raise BadField(_("images: vision models are not supported."), param="messages")
    calls = tuple(
        ToolCall(call.id or "", call.function.name, json.dumps(call.function.arguments or {}))
        for call in message.tool_calls or ()
    )
    return ChatMessage(
        role,
        message.content or "",
        message.thinking or "",
        calls,
        message.tool_call_id or "",
        message.tool_name or "",
    )


# Loading.


async def _load(
    request: HttpRequest,
    body: t.Generate | t.Chat,
    caller: Caller,
    model: ModelName,
    shape: dict[str, Any],
) -> HttpResponseBase:
    """Load the model for a request without text, or unload it if ``keep_alive`` is 0."""
    redis = runtime().redis
    unload = common.keep_alive(body.keep_alive) == 0
    if unload:
        await sync_to_async(common.may_change)(caller, "change")
        await commands.unload(redis, model.version_id)
        common.record_model(request, caller, "model.unloaded", model)
    else:
        stay = await common.stay(caller, model, body.keep_alive)
        await loading.load(redis, model.name, stay)
    reason = "unload" if unload else "load"
    head = {"model": body.wanted, "created_at": common.now()}
    return http.answer(head | shape | {"done": True, "done_reason": reason})


# Vectors.


@endpoint("embed", "POST")
async def embed(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _embed)
    inputs = [body.input] if isinstance(body.input, str) else body.input
    inputs = [] if inputs in (None, [""]) else inputs
    if not isinstance(inputs, list) or not all(isinstance(one, str) for one in inputs):
        raise BadField("invalid input type", param="input")
    found, times = await _vectors(body, caller, inputs, body.truncate is not False)
    figures = {
        "total_duration": round(times.get("total", 0) * 1e6),
        "load_duration": round(times.get("queue", 0) * 1e6),
        "prompt_eval_count": found.tokens,
    }
    vectors = (vector.tolist() for vector in each(found, body.dimensions or 0))
    head = {"model": body.wanted, "embeddings": [], **figures}
    return http.answer_lists(head, {"embeddings": vectors})


@endpoint("embed", "POST")
async def embeddings(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _embedding)
    found, _times = await _vectors(body, caller, [body.prompt] if body.prompt else [], True)
    vector = next(each(found), None)
    return http.answer({"embedding": vector.tolist() if vector else []})


async def _vectors(
    body: t.Embed | t.Embedding, caller: Caller, inputs: list[str], truncate: bool
) -> tuple[Vectors, dict[str, float]]:
    """Return the vectors of all inputs, and timings in milliseconds."""
    model = await _model(caller, body)
    if not inputs:
        return Vectors(b"", 1, 0), {}
    stay = await common.stay(caller, model, body.keep_alive)
    wanted = GenerationRequest(
        model.name, embed=Embed("", "", tuple(inputs), truncate), keep_alive=stay, param="input"
    )
    found, end = None, End("done")
    async with ask_all(runtime(), caller, [wanted]) as answers:
        async for _index, event in answers.events():
            if isinstance(event, Vectors):
                found = event
            elif isinstance(event, End):
                end = event
    if found is None:
        raise EngineFailed
    return found, end.timings
