"""This product as an engine of another one: its API takes what the clients send."""

from __future__ import annotations

import json

import msgspec

from chatsite.api.ollama import types as ollama
from chatsite.api.openai import types as openai
from chatsite.engine.contract.messages import ChatMessage, Tool, ToolCall
from chatsite.inference.remote.contract import Kind, RemoteRequest
from tests.support.engines import Edge, answer, ask, delta, sse, stream

MESSAGES = (
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "Bern?"),
    ChatMessage("assistant", "", "Hm.", (ToolCall("c", "weather", '{"city": "Bern"}'),)),
    ChatMessage("tool", "Snow", tool_call_id="c", tool_name="weather"),
)


def everything() -> RemoteRequest:
    return ask(
        messages=MESSAGES,
        tools=(Tool("weather"),),
        json_schema={"type": "object"},
        top_logprobs=2,
        stop=("x",),
        seed=1,
        max_tokens=5,
        think=True,
        salt="opaque",
    )


async def test_as_an_openai_compatible_server_and_as_any_that_extends_it() -> None:
    for kind in (Kind.OPENAI, Kind.VLLM, Kind.LLAMA_SERVER):
        path = "/v1/chat/completions"
        server = Edge({path: stream(sse(delta("stop")), "text/event-stream")})
        await answer(server.client(kind), everything())
        body = json.dumps(server.body(path)).encode()
        found = msgspec.json.decode(body, type=openai.ChatRequest)
        assert found.max_tokens == 5
        assert len(found.messages) == 4


async def test_as_ollama() -> None:
    end = json.dumps({"done": True, "done_reason": "stop"}).encode() + b"\n"
    server = Edge({"/api/chat": stream(end, "application/x-ndjson")})
    await answer(server.client(Kind.OLLAMA), everything())
    found = msgspec.json.decode(json.dumps(server.body("/api/chat")).encode(), type=ollama.Chat)
    assert found.truncate is False
    assert found.think is True
