"""Ollama's `/api/generate`, `/api/chat`, `/api/embed` and `/api/embeddings`."""

from __future__ import annotations

import asyncio
import json
from array import array
from functools import partial
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.api import http, ollama, ollama_context
from chatsite.api import ollama_types as t
from chatsite.api.embeddings import shortened
from chatsite.api.http import BadField
from chatsite.api.many import Wanted, ask_all
from chatsite.api.ollama import NoSuchModel, endpoint
from chatsite.api.ollama_answers import Chatted, Generated, answer
from chatsite.chat.runtime import runtime
from chatsite.engine.messages import (
    ChatMessage,
    Embed,
    PromptOptions,
    Role,
    Tool,
    ToolCall,
)
from chatsite.errors import EngineFailed, ModelMissing, ModelUnavailable, revived
from chatsite.inference import commands, status
from chatsite.stream.messages import End, Vectors
from models_admin import catalogue, go_template, options
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
_LOAD_SECONDS = 300.0


@endpoint("chat", "POST")
async def generate(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _generate)
    model = await _model(body.wanted)
    if body.images:
        raise BadField(_("images: models that see are not supported."), param="images")
    if body.raw and (body.template or body.system or body.context):
        raise BadField("raw mode does not support template, system, or context")
    if not body.prompt and not body.suffix:
        return await _load(body, caller, model, {"response": ""})
    said = _params(body)
    if body.raw or body.suffix:
        asked = PromptOptions(raw=body.prompt or "", suffix=body.suffix or "")
        messages = []
    else:
        asked = _options(body, template=go_template.as_jinja(body.template or ""))
        messages = ollama_context.unpack(body.context) if body.context else []
        if body.system:
            rest = messages[1:] if messages and messages[0].role == "system" else messages
            messages = [ChatMessage("system", body.system), *rest]
        messages.append(ChatMessage("user", body.prompt or ""))
    stay = await ollama.stay(caller, model, body.keep_alive)
    wanted = Wanted(model.name, messages, options=asked, said=said, keep_alive=stay)
    form = partial(Generated, body.wanted, wanted)
    return await answer(caller, wanted, form, streamed=body.stream is not False)


@endpoint("chat", "POST")
async def chat(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _chat)
    if not body.wanted:
        raise BadField("model is required")
    model = await _model(body.wanted)
    if not body.messages:
        return await _load(body, caller, model, {"message": {"role": "assistant", "content": ""}})
    tools = tuple(
        Tool(one.function.name, one.function.description or "", one.function.parameters or {})
        for one in body.tools or ()
    )
    messages = [_message(message) for message in body.messages]
    wanted = Wanted(
        model.name,
        messages,
        options=_options(body, tools=tools),
        said=_params(body),
        keep_alive=await ollama.stay(caller, model, body.keep_alive),
    )
    form = partial(Chatted, body.wanted, wanted)
    return await answer(caller, wanted, form, streamed=body.stream is not False)


async def _model(name: str) -> ModelName:
    try:
        return await sync_to_async(catalogue.find)(name)
    except ModelMissing:
        raise NoSuchModel(name) from None


def _params(body: t.Generate | t.Chat) -> dict[str, Any]:
    """The fields of `SamplingParams` that the request sets."""
    said = options.sampling(body.options or {})
    if schema := ollama.schema(body.format):
        said["json_schema"] = schema
    if body.logprobs:
        said["top_logprobs"] = body.top_logprobs or 0
    return said


def _options(
    body: t.Generate | t.Chat, *, tools: tuple[Tool, ...] = (), template: str = ""
) -> PromptOptions:
    return PromptOptions(
        tools=tools,
        think=None if body.think is None else bool(body.think),
        overflow="error" if body.truncate is False else "keep_latest",
        template=template,
    )


def _message(message: t.Message) -> ChatMessage:
    role = _ROLES.get(message.role.lower())
    if role is None:
        raise BadField(f'messages: invalid role "{message.role}"', param="messages")
    if message.images:
        raise BadField(_("images: models that see are not supported."), param="messages")
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
    body: t.Generate | t.Chat, caller: Caller, model: ModelName, shape: dict[str, Any]
) -> HttpResponseBase:
    """A request without text loads the model, or with ``keep_alive`` 0 lets it go."""
    redis = runtime().redis
    unload = ollama.keep_alive(body.keep_alive) == 0
    if unload:
        await sync_to_async(ollama.may_change)(caller, "change")
        await commands.unload(redis, model.version_id)
    else:
        stay = await ollama.stay(caller, model, body.keep_alive)
        await commands.load(redis, model.name, stay)
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                while not await _is_ready(model.name):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise ModelUnavailable from None
    reason = "unload" if unload else "load"
    head = {"model": body.wanted, "created_at": ollama.now()}
    return http.answer(head | shape | {"done": True, "done_reason": reason})


async def _is_ready(name: str) -> bool:
    known = status.best(await status.alive(runtime().redis), name)
    if known and known.state == "failed":
        raise revived(known.error) or ModelUnavailable()
    return known is not None and known.state == "ready"


# Vectors.


@endpoint("embed", "POST")
async def embed(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _embed)
    inputs = body.input or []
    if isinstance(inputs, str):
        inputs = [inputs]
    vectors, tokens, times = await _vectors(body, caller, inputs, body.truncate is not False)
    found = [shortened(vector, body.dimensions or 0).tolist() for vector in vectors]
    figures = {
        "total_duration": round(times.get("total", 0) * 1e6),
        "load_duration": round(times.get("queue", 0) * 1e6),
        "prompt_eval_count": tokens,
    }
    return http.answer({"model": body.wanted, "embeddings": found, **figures})


@endpoint("embed", "POST")
async def embeddings(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _embedding)
    vectors, _tokens, _times = await _vectors(
        body, caller, [body.prompt] if body.prompt else [], True
    )
    return http.answer({"embedding": vectors[0].tolist() if vectors else []})


async def _vectors(
    body: t.Embed | t.Embedding, caller: Caller, inputs: list[str], truncate: bool
) -> tuple[list[array[float]], int, dict[str, float]]:
    """Vectors of all inputs, their tokens, and timings in milliseconds."""
    try:
        model = await sync_to_async(catalogue.find)(body.wanted)
    except ModelMissing:
        text = 'model "%s" not found, try pulling it first'
        raise NoSuchModel(body.wanted, text) from None
    if not inputs:
        return [], 0, {}
    stay = await ollama.stay(caller, model, body.keep_alive)
    wanted = Wanted(model.name, embed=Embed("", "", tuple(inputs), truncate), keep_alive=stay)
    found, end = None, End("done")
    async with ask_all(runtime(), caller, [wanted]) as answers:
        async for _index, event in answers.events():
            if isinstance(event, Vectors):
                found = event
            elif isinstance(event, End):
                end = event
    if found is None:
        raise EngineFailed
    numbers = array("f", found.vectors)
    rows = [numbers[at : at + found.size] for at in range(0, len(numbers), found.size)]
    return rows, found.tokens, end.timings
