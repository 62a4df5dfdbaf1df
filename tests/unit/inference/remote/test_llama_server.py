"""llama-server: what it is asked, and the fields that only it has."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from chatsite.engine.contract.messages import ChatMessage, PromptOptions, Tool
from chatsite.inference.remote.contract import Capability, Kind, Refused, TooLong
from tests.support.engines import MODEL, Edge, answer, ask, delta, sse, stream

CHAT = "/v1/chat/completions"
SSE = "text/event-stream"
PROPS = {
    "default_generation_settings": {"n_ctx": 2048, "params": {}},
    "total_slots": 4,
    "build_info": "b9000-abc",
    "chat_template": "{{ messages }}",
    "chat_template_caps": {"supports_tools": True},
    "modalities": {"vision": True, "audio": False},
}


def found(props: dict[str, Any], **replies: Any) -> Edge:
    return Edge(
        {
            "/props": httpx.Response(200, json=props),
            "/v1/models": httpx.Response(200, json={"data": [{"id": "tiny.gguf"}]}),
            "/completion": httpx.Response(200, json={"content": "a"}),
            "/v1/embeddings": httpx.Response(
                501, json={"error": {"code": 501, "message": "Start it with --embeddings"}}
            ),
            **replies,
        }
    )


async def test_a_chat_model() -> None:
    def template(request: httpx.Request) -> httpx.Response:
        thinks = json.loads(request.content)["chat_template_kwargs"]["enable_thinking"]
        return httpx.Response(200, json={"prompt": f"think: {thinks}"})

    server = found(PROPS, **{"/apply-template": template})
    discovery = await server.client(Kind.LLAMA_SERVER).discover()
    assert discovery.version == "b9000-abc"
    (model,) = discovery.models
    assert (model.name, model.context_length, model.slots) == ("tiny.gguf", 2048, 4)
    assert model.capabilities == frozenset(Capability) - {
        Capability.EMBEDDINGS,
        Capability.CACHE_ISOLATION,
    }


async def test_a_base_model_and_one_of_embeddings() -> None:
    server = found({**PROPS, "chat_template": ""})
    (model,) = (await server.client(Kind.LLAMA_SERVER).discover()).models
    assert Capability.COMPLETION in model.capabilities
    assert Capability.CHAT not in model.capabilities
    server = found(
        PROPS,
        **{
            "/v1/embeddings": httpx.Response(200, json={}),
            "/completion": httpx.Response(501, json={"error": "no"}),
        },
    )
    (model,) = (await server.client(Kind.LLAMA_SERVER).discover()).models
    assert model.capabilities == {Capability.EMBEDDINGS}


async def test_an_earlier_server_without_capabilities_of_its_template() -> None:
    props = {k: v for k, v in PROPS.items() if k != "chat_template_caps"}
    for template, tools in [("{{ tools }}", True), ("{{ messages }}", False)]:
        server = found({**props, "chat_template": template})
        (model,) = (await server.client(Kind.LLAMA_SERVER).discover()).models
        assert (Capability.TOOLS in model.capabilities) == tools


async def test_a_router_is_not_made_to_load_models() -> None:
    models = {"data": [{"id": "a"}, {"id": "b"}]}
    server = found(PROPS, **{"/v1/models": httpx.Response(200, json=models)})
    discovery = await server.client(Kind.LLAMA_SERVER).discover()
    assert [model.name for model in discovery.models] == ["a", "b"]
    assert [path for path, _ in server.sent] == ["/v1/models", "/props"]


async def test_loading() -> None:
    body = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    server = Edge({"/health": httpx.Response(503, json=body)})
    with pytest.raises(Refused, match="Loading model") as raised:
        await server.client(Kind.LLAMA_SERVER).healthy()
    assert raised.value.busy


async def test_its_own_fields_and_figures() -> None:
    timings = {
        "cache_n": 10,
        "prompt_n": 5,
        "prompt_ms": 20.5,
        "predicted_n": 2,
        "predicted_ms": 30.25,
    }
    end = delta("length") | {"timings": timings}
    server = Edge({CHAT: stream(sse(delta(content="a"), delta(content="b"), end), SSE)})
    request = ask(grammar="root ::= [a]", think=True, logit_bias=((3, -100),), ignore_eos=True)
    whole = await answer(server.client(Kind.LLAMA_SERVER), request)
    finish = whole.finish
    assert (finish.reason, finish.prompt_tokens, finish.cached_tokens) == ("length", 15, 10)
    assert (finish.completion_tokens, finish.prefill_ms, finish.decode_ms) == (2, 20.5, 30.25)
    body = server.body(CHAT)
    assert (body["cache_prompt"], body["timings_per_token"]) == (True, True)
    assert (body["grammar"], body["logit_bias"]) == ("root ::= [a]", [[3, -100.0]])
    assert body["chat_template_kwargs"]["enable_thinking"] is True
    assert (body["repeat_last_n"], body["ignore_eos"]) == (64, True)


async def test_a_function_that_must_be_called() -> None:
    """It takes no names, only that some function is required."""
    server = Edge({CHAT: stream(sse(delta("stop")), SSE)})
    request = ask(tools=(Tool("a"), Tool("b")), tool_choice="b")
    await answer(server.client(Kind.LLAMA_SERVER), request)
    body = server.body(CHAT)
    assert body["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["b"]


async def test_log_probabilities_of_a_part_of_a_character() -> None:
    def part(text: str, piece: int) -> dict[str, Any]:
        chunk = delta(content=text)
        item = {"token": "", "logprob": -1.0, "bytes": [piece], "top_logprobs": []}
        chunk["choices"][0]["logprobs"] = {"content": [item]}
        return chunk

    server = Edge({CHAT: stream(sse(part("", 0xC3), part("ü", 0xBC), delta("stop")), SSE)})
    whole = await answer(server.client(Kind.LLAMA_SERVER), ask(top_logprobs=0))
    assert [one.piece for piece in whole.pieces for one in piece.logprobs] == [b"\xc3", b"\xbc"]
    assert whole.content == "ü"


async def test_a_prompt_that_exceeds_the_context() -> None:
    message = "request (300 tokens) exceeds the available context size (256 tokens), try increasing"
    body = {"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}}
    with pytest.raises(TooLong) as raised:
        await answer(Edge({CHAT: httpx.Response(400, json=body)}).client(Kind.LLAMA_SERVER), ask())
    assert (raised.value.prompt_tokens, raised.value.context) == (300, 256)


async def test_a_continued_answer_is_not_repeated() -> None:
    """Without these fields it continues too, but its first text repeats what it was given."""
    server = Edge({CHAT: stream(sse(delta(content=" time"), delta("stop")), SSE)})
    whole = await answer(server.client(Kind.LLAMA_SERVER), ask(resume_text="Once upon a"))
    assert whole.content == "Once upon a time"
    body = server.body(CHAT)
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["messages"][-1] == {"role": "assistant", "content": "Once upon a"}


async def test_prompts_of_tokens_and_texts() -> None:
    path = "/v1/completions"
    end = {"choices": [{"text": "", "finish_reason": "stop"}]}
    server = Edge({path: stream(sse(end), SSE)})
    request = ask(messages=(), raw=(1, "a"), resume_text="b", json_schema={"type": "object"})
    await answer(server.client(Kind.LLAMA_SERVER), request)
    assert server.body(path)["prompt"] == [1, "a", "b"]
    assert server.body(path)["json_schema"] == {"type": "object"}


async def test_counting() -> None:
    server = Edge(
        {
            "/apply-template": httpx.Response(200, json={"prompt": "<user>Hi"}),
            "/tokenize": httpx.Response(200, json={"tokens": [1, 2, 3]}),
        }
    )
    client = server.client(Kind.LLAMA_SERVER)
    assert await client.count_tokens(MODEL, (ChatMessage("user", "Hi"),), PromptOptions()) == 3
    assert server.body("/tokenize")["content"] == "<user>Hi"
    assert await client.count_tokens(MODEL, (), PromptOptions(raw=(1, "a"))) == 3
    assert server.body("/tokenize")["content"] == [1, "a"]
