"""vLLM: what it is asked, and the fields that only it has."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from chatsite.engine.contract.messages import ChatMessage, PromptOptions, Tool
from chatsite.inference.remote.contract import Capability, Kind, Refused, RemoteModel
from tests.support.engines import MODEL, Edge, answer, ask, delta, sse, stream

CHAT = "/v1/chat/completions"
SSE = "text/event-stream"


def error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": "x", "code": status}})


def simple(path: str = CHAT) -> Edge:
    chunk = delta(content="Hi") if path == CHAT else {"choices": [{"text": "Hi"}]}
    end = {"choices": [{"delta": {}, "text": "", "finish_reason": "stop"}]}
    return Edge({path: stream(sse(chunk, end), SSE)})


def found(version: str, *models: dict[str, Any], **replies: Any) -> Edge:
    return Edge(
        {
            "/version": httpx.Response(200, json={"version": version}),
            "/v1/models": httpx.Response(200, json={"data": list(models)}),
            **replies,
        }
    )


def tokenize(request: httpx.Request) -> httpx.Response:
    thinks = json.loads(request.content)["chat_template_kwargs"]["enable_thinking"]
    return httpx.Response(200, json={"count": 2, "tokens": [1, 2 + thinks]})


async def test_a_model_with_everything_and_its_adapter() -> None:
    server = found(
        "0.10.2",
        {"id": "base", "max_model_len": 4096},
        {"id": "lora", "parent": "base", "max_model_len": 4096},
        **{CHAT: httpx.Response(200, json={}), "/tokenize": tokenize},
    )
    discovery = await server.client(Kind.VLLM).discover()
    assert discovery.version == "0.10.2"
    base, lora = discovery.models
    assert base.capabilities == frozenset(Capability) - {
        Capability.VISION,
        Capability.EMBEDDINGS,
    }
    assert (lora.capabilities, lora.context_length) == (base.capabilities, 4096)
    assert server.body(CHAT)["max_tokens"] == 1


async def test_without_a_parser_of_calls_and_without_salts() -> None:
    def chat(request: httpx.Request) -> httpx.Response:
        if "tools" in json.loads(request.content):
            return error(400, '"auto" tool choice requires --enable-auto-tool-choice')
        return httpx.Response(200, json={})

    server = found("0.8.5", {"id": "m"}, **{CHAT: chat})
    (model,) = (await server.client(Kind.VLLM).discover()).models
    assert Capability.CHAT in model.capabilities
    assert Capability.TOOLS not in model.capabilities
    assert Capability.CACHE_ISOLATION not in model.capabilities
    assert Capability.REASONING not in model.capabilities


async def test_a_base_model() -> None:
    server = found(
        "0.12.0",
        {"id": "m"},
        **{
            CHAT: error(400, "default chat template is no longer allowed"),
            "/v1/completions": httpx.Response(200, json={}),
        },
    )
    (model,) = (await server.client(Kind.VLLM).discover()).models
    assert Capability.COMPLETION in model.capabilities
    assert Capability.CHAT not in model.capabilities


async def test_a_model_of_embeddings() -> None:
    server = found(
        "0.12.0", {"id": "m"}, **{"/v1/embeddings": httpx.Response(200, json={"data": []})}
    )
    (model,) = (await server.client(Kind.VLLM).discover()).models
    assert model.capabilities == {Capability.EMBEDDINGS}


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_errors_that_say_nothing_about_the_model(status: int) -> None:
    server = found("0.12.0", {"id": "m"}, **{CHAT: error(status, "no")})
    with pytest.raises(Refused):
        await server.client(Kind.VLLM).discover()


async def test_its_own_fields() -> None:
    server = simple()
    request = ask(
        salt="opaque",
        think=False,
        top_k=5,
        min_p=0.1,
        repeat_penalty=1.1,
        stop_tokens=(7,),
        min_tokens=3,
        ignore_eos=True,
        stop=tuple("abcdef"),
        logit_bias=((5, 1.5),),
    )
    await answer(server.client(Kind.VLLM), request)
    body = server.body(CHAT)
    assert body["cache_salt"] == "opaque"
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (5, 0.1, 1.1)
    assert (body["stop_token_ids"], body["min_tokens"], body["ignore_eos"]) == ([7], 3, True)
    assert body["logit_bias"] == {"5": 1.5}
    assert len(body["stop"]) == 6
    assert "max_tokens" not in body


async def test_required_calls_follow_the_schema() -> None:
    for choice, strict in [("f", True), ("required", True), ("auto", None)]:
        server = simple()
        await answer(server.client(Kind.VLLM), ask(tools=(Tool("f"),), tool_choice=choice))
        (tool,) = server.body(CHAT)["tools"]
        assert tool["function"].get("strict") is strict


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (None, {"guided_grammar", "structured_outputs"}),
        ("0.9.1", {"guided_grammar"}),
        ("0.12.0", {"structured_outputs"}),
        ("0.1.dev1+gabc", {"structured_outputs"}),
    ],
)
async def test_grammars_by_version(version: str | None, fields: set[str]) -> None:
    server = simple()
    client = server.client(Kind.VLLM)
    if version is not None:
        other = found(version)
        server.replies = {**other.replies, **server.replies}
        await client.discover()
    await answer(client, ask(grammar="root ::= [a]"))
    assert {"guided_grammar", "structured_outputs"} & set(server.body(CHAT)) == fields


async def test_a_continued_answer() -> None:
    server = simple()
    request = ask(resume_text="<think>\nHm.\n</think>\n\nHello ", generated=4, max_tokens=10)
    whole = await answer(server.client(Kind.VLLM), request)
    assert (whole.reasoning, whole.content) == ("Hm.", "Hello Hi")
    body = server.body(CHAT)
    assert body["messages"][-1] == {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "Hm.",
    }
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    assert body["max_tokens"] == 6


async def test_a_beginning_that_the_client_wrote() -> None:
    server = simple()
    messages = (ChatMessage("user", "Hi"), ChatMessage("assistant", "Well, "))
    request = ask(messages=messages, continue_final=True, resume_text="then")
    await answer(server.client(Kind.VLLM), request)
    assert server.body(CHAT)["messages"][1:] == [{"role": "assistant", "content": "Well, then"}]


async def test_tokens_are_counted_by_the_engine() -> None:
    def chunk(text: str, count: int) -> dict[str, Any]:
        return delta(content=text) | {"usage": {"prompt_tokens": 1, "completion_tokens": count}}

    server = Edge({CHAT: stream(sse(chunk("a", 3), chunk("b", 5), delta("stop")), SSE)})
    whole = await answer(server.client(Kind.VLLM), ask())
    assert [piece.tokens for piece in whole.pieces] == [3, 2]
    assert whole.finish.completion_tokens == 5


async def test_tokens_as_a_prompt() -> None:
    path = "/v1/completions"
    server = simple(path)
    await answer(server.client(Kind.VLLM), ask(messages=(), raw=(1, 2, 3), salt="s"))
    assert server.body(path)["prompt"] == [1, 2, 3]
    assert server.body(path)["cache_salt"] == "s"


async def test_counting() -> None:
    server = Edge({"/tokenize": httpx.Response(200, json={"count": 12, "max_model_len": 50})})
    client = server.client(Kind.VLLM)
    messages = (ChatMessage("user", "Hi"),)
    assert await client.count_tokens(MODEL, messages, PromptOptions()) == 12
    assert server.body("/tokenize")["messages"] == [{"role": "user", "content": "Hi"}]
    assert await client.count_tokens(MODEL, (), PromptOptions(raw="Hi")) == 12
    assert server.body("/tokenize") == {"model": "tiny", "prompt": "Hi"}
    none = RemoteModel("m")
    assert await client.count_tokens(none, messages, PromptOptions()) is None


async def test_health() -> None:
    await Edge({"/health": httpx.Response(200)}).client(Kind.VLLM).healthy()
    with pytest.raises(Refused):
        await Edge({"/health": httpx.Response(503)}).client(Kind.VLLM).healthy()
