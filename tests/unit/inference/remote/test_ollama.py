"""Ollama: what it is asked, and how its lines become answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from chatsite.engine.contract.messages import ChatMessage, Tool, ToolCall
from chatsite.inference.remote.contract import (
    Capability,
    Interrupted,
    Kind,
    Lied,
    Refused,
    RemoteModel,
    TooLong,
    Unsupported,
)
from tests.support.engines import MODEL, Chunks, Edge, answer, ask, stream

CHAT = "/api/chat"
NDJSON = "application/x-ndjson"
END = {
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 11,
    "prompt_eval_duration": 5_000_000,
    "eval_count": 3,
    "eval_duration": 9_000_000,
}
WEATHER = Tool("weather", "Look it up.")


def said(**message: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": "", **message}, "done": False}


def ndjson(*lines: Any) -> httpx.Response:
    return stream("".join(json.dumps(line) + "\n" for line in lines).encode(), NDJSON)


def chat(*lines: Any) -> Edge:
    return Edge({CHAT: ndjson(*lines)})


async def test_an_answer() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    server = chat(
        said(thinking="Let me "),
        said(thinking="see."),
        said(content="Look"),
        said(content="ing."),
        said(tool_calls=[call, call]),
        END,
    )
    whole = await answer(server.client(Kind.OLLAMA), ask(tools=(WEATHER,), think=True))
    assert (whole.reasoning, whole.content) == ("Let me see.", "Looking.")
    assert whole.calls == [("weather", {"city": "Rome"})] * 2
    finish = whole.finish
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("stop", 11, 3)
    assert (finish.cached_tokens, finish.prefill_ms, finish.decode_ms) == (None, 5.0, 9.0)
    assert server.body(CHAT)["think"] is True


async def test_prompts_are_never_cut_silently() -> None:
    server = chat(END)
    request = ask(max_tokens=20, seed=2**32 - 2, stop=("x",), json_schema={"type": "object"})
    await answer(server.client(Kind.OLLAMA), request)
    body = server.body(CHAT)
    assert (body["truncate"], body["shift"]) == (False, False)
    options = body["options"]
    assert (options["num_ctx"], options["num_predict"], options["stop"]) == (4096, 20, ["x"])
    assert 0 <= options["seed"] < 2**31
    assert body["format"] == {"type": "object"}
    assert "think" not in body
    body = (await _sent(ask(effort="low")))["think"]
    assert body == "low"


async def _sent(request: Any) -> Any:
    server = chat(END)
    await answer(server.client(Kind.OLLAMA), request)
    return server.body(CHAT)


async def test_a_model_without_reasoning_is_not_asked_for_it() -> None:
    plain = RemoteModel("m", 100, frozenset({Capability.CHAT}))
    assert "think" not in await _sent(ask(model=plain, think=True))


async def test_history() -> None:
    messages = (
        ChatMessage("user", "Bern?"),
        ChatMessage("assistant", "", "Hm.", (ToolCall("c", "weather", '{"city": "Bern"}'),)),
        ChatMessage("tool", "Snow", tool_call_id="c", tool_name="weather"),
    )
    body = await _sent(ask(messages=messages, tools=(WEATHER,)))
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm.",
            "tool_calls": [
                {"id": "c", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
            ],
        },
        {"role": "tool", "content": "Snow", "tool_name": "weather", "tool_call_id": "c"},
    ]


async def test_plain_text() -> None:
    lines = [{"response": "b", "done": False}, {"response": "", "done": True, "eval_count": 1}]
    server = Edge({"/api/generate": ndjson(*lines)})
    whole = await answer(server.client(Kind.OLLAMA), ask(messages=(), raw="a", resume_text="x"))
    assert whole.text == "xb"
    assert (server.body("/api/generate")["raw"], server.body("/api/generate")["prompt"]) == (
        True,
        "ax",
    )


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([said(content="Hi")], Interrupted),
        ([said(content="Hi"), {"error": "the runner has terminated"}], Refused),
        ([{"error": "the input length exceeds the context length"}], TooLong),
        (["{"], Lied),
        ([{"message": {"content": 5}}], Lied),
    ],
)
async def test_streams_that_fail(lines: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await answer(chat(*lines).client(Kind.OLLAMA), ask())


async def test_nothing_is_read_behind_the_end() -> None:
    body = Chunks([json.dumps(END).encode() + b"\n", b"nonsense\n"])
    await answer(Edge({CHAT: stream(body, NDJSON)}).client(Kind.OLLAMA), ask())
    assert body.closed


async def test_what_it_cannot_do() -> None:
    client = chat(END).client(Kind.OLLAMA)
    for request in [
        ask(tools=(WEATHER,), tool_choice="required"),
        ask(raw=(1, 2)),
        ask(logit_bias=((1, 1.0),)),
        ask(model=RemoteModel("m", 1, frozenset({Capability.CHAT})), grammar="root ::= [a]"),
    ]:
        with pytest.raises(Unsupported):
            await answer(client, request)


def show(**fields: Any) -> httpx.Response:
    info = {"general.architecture": "qwen3", "qwen3.context_length": 40960}
    return httpx.Response(200, json={"model_info": info, **fields})


async def discovered(shown: httpx.Response, version: str = "0.20.1", **server: Any) -> RemoteModel:
    edge = Edge(
        {
            "/api/version": httpx.Response(200, json={"version": version}),
            "/api/tags": httpx.Response(200, json={"models": [{"name": "qwen3:8b"}]}),
            "/api/show": shown,
        }
    )
    found = await edge.client(Kind.OLLAMA, **server).discover()
    assert found.version == version
    (model,) = found.models
    return model


async def test_discovery() -> None:
    words = ["completion", "tools", "thinking", "insert", "unheard-of"]
    model = await discovered(show(capabilities=words))
    assert model.name == "qwen3:8b"
    assert model.capabilities == {
        *(Capability.CHAT, Capability.COMPLETION, Capability.JSON_SCHEMA),
        *(Capability.TOOLS, Capability.REASONING, Capability.LOGPROBS),
    }
    vectors = await discovered(show(capabilities=["embedding"]))
    assert vectors.capabilities == {Capability.EMBEDDINGS}
    old = await discovered(show(template="{{ .Tools }}"), version="0.6.0")
    assert Capability.TOOLS in old.capabilities
    assert Capability.LOGPROBS not in old.capabilities


async def test_the_context_length() -> None:
    """The default is not the model's longest: its memory is seldom there."""
    words = ["completion"]
    assert (await discovered(show(capabilities=words))).context_length == 8192
    parameters = 'stop "x"\nnum_ctx                        16384'
    configured = await discovered(show(capabilities=words, parameters=parameters))
    assert configured.context_length == 16384
    assert (await discovered(show(capabilities=words), context=2**20)).context_length == 40960
    assert (await discovered(httpx.Response(200, json={}), context=500)).context_length == 500


async def test_embeddings() -> None:
    body = {"embeddings": [[3.0, 4.0]], "prompt_eval_count": 5}
    server = Edge({"/api/embed": httpx.Response(200, json=body)})
    found = await server.client(Kind.OLLAMA).embed(MODEL, ["a"])
    assert np.frombuffer(found.data, "<f4").tolist() == pytest.approx([0.6, 0.8])
    assert (found.size, found.tokens) == (2, 5)
    assert server.body("/api/embed")["truncate"] is False
    with pytest.raises(Lied):
        await server.client(Kind.OLLAMA).embed(MODEL, ["a", "b"])
