"""OpenAI-compatible servers: what is sent, and how streams become answers."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatsite.engine.contract.messages import ChatMessage, Tool, ToolCall
from chatsite.inference.remote.contract import (
    CannotContinue,
    Capability,
    Finish,
    Interrupted,
    Kind,
    Lied,
    Piece,
    Refused,
    RemoteModel,
    TooLong,
    Unsupported,
)
from tests.support.engines import MODEL, Chunks, Edge, answer, ask, delta, sse, stream, usage

CHAT = "/v1/chat/completions"
SSE = "text/event-stream"
WEATHER = Tool("weather", "Look it up.", {"type": "object", "properties": {"city": {}}})


def edge(*events: Any, done: bool = True) -> Edge:
    return Edge({CHAT: stream(sse(*events, done=done), SSE)})


SIMPLE = (delta(role="assistant", content=""), delta(content="Hi"), delta("stop"), usage(5, 2))


async def test_an_answer_with_its_figures() -> None:
    server = edge(
        delta(role="assistant", content=""),
        delta(reasoning_content="Let me "),
        delta(reasoning="see."),
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop", content=""),
        usage(7, 9, prompt_tokens_details={"cached_tokens": 4}),
    )
    whole = await answer(server.client(Kind.OPENAI), ask())
    assert (whole.reasoning, whole.content, whole.calls) == ("Let me see.", "Hello", [])
    assert [piece.tokens for piece in whole.pieces] == [1, 1, 1, 1]
    finish = whole.finish
    assert (finish.reason, finish.prompt_tokens, finish.cached_tokens) == ("stop", 7, 4)
    assert finish.completion_tokens == 9


@settings(max_examples=40)
@given(data=st.data())
async def test_any_split_into_parts_of_the_connection(data: st.DataObject) -> None:
    body = sse(
        delta(content="Grüße, 世界"),
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x": "ü"}'}}]),
        delta("tool_calls"),
        usage(1, 2),
    ).replace(b"\n\n", data.draw(st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n: ping\n\n"])))
    places = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=30)))
    parts = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    client = Edge({CHAT: stream(parts, SSE)}).client(Kind.OPENAI)
    whole = await answer(client, ask(tools=(WEATHER,)))
    assert (whole.content, whole.calls) == ("Grüße, 世界", [("f", {"x": "ü"})])


async def test_parallel_calls_and_how_tools_are_sent() -> None:
    server = edge(
        delta(
            tool_calls=[
                {"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"city":'}},
                {"index": 1, "id": "b", "function": {"name": "weather", "arguments": ""}},
            ]
        ),
        delta(tool_calls=[{"index": 1, "function": {"arguments": '{"city": "Rome"}'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ' "Oslo"}'}}]),
        delta("tool_calls"),
        usage(1, 30),
    )
    history = (
        ChatMessage("user", "And Bern?"),
        ChatMessage("assistant", "", "Hm.", (ToolCall("c1", "weather", '{"city": "Bern"}'),)),
        ChatMessage("tool", "Snow", tool_call_id="c1", tool_name="weather"),
    )
    whole = await answer(
        server.client(Kind.OPENAI),
        ask(messages=history, tools=(WEATHER,), tool_choice="weather"),
    )
    assert whole.calls == [("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})]
    assert sum(piece.tokens for piece in whole.pieces) == 30
    body = server.body(CHAT)
    assert body["tools"][0]["function"]["name"] == "weather"
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Bern"}'},
                }
            ],
        },
        {"role": "tool", "content": "Snow", "tool_call_id": "c1", "name": "weather"},
    ]


async def test_only_documented_fields_are_sent() -> None:
    server = edge(*SIMPLE)
    await answer(server.client(Kind.OPENAI), ask(max_tokens=9, seed=3, stop=("x",), salt="s"))
    assert set(server.body(CHAT)) == {
        *("model", "messages", "temperature", "top_p", "seed", "stop", "max_tokens"),
        *("stream", "stream_options"),
    }


async def test_formats_and_log_probabilities() -> None:
    item = {
        "token": "H",
        "logprob": -0.5,
        "bytes": [72],
        "top_logprobs": [{"token": "J", "logprob": -1.5, "bytes": None}],
    }
    chunk = delta(content="H")
    chunk["choices"][0]["logprobs"] = {"content": [item]}
    server = edge(chunk, delta("stop"))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    whole = await answer(server.client(Kind.OPENAI), ask(json_schema=schema, top_logprobs=1))
    (logprob,) = whole.pieces[0].logprobs
    assert (logprob.token, logprob.piece, logprob.logprob) == (-1, b"H", -0.5)
    assert logprob.top == ((-1, b"J", -1.5),)
    body = server.body(CHAT)
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert (body["logprobs"], body["top_logprobs"]) == (True, 1)
    server = edge(*SIMPLE)
    await answer(server.client(Kind.OPENAI), ask(json_schema={"type": "object"}))
    assert server.body(CHAT)["response_format"] == {"type": "json_object"}


async def test_a_completion() -> None:
    chunk = {
        "choices": [
            {
                "text": "<think> b",
                "logprobs": {
                    "tokens": ["b"],
                    "token_logprobs": [None],
                    "top_logprobs": [{"b": -1.0, "c": -2.0}],
                },
            }
        ]
    }
    server = Edge(
        {
            "/v1/completions": stream(
                sse(chunk, {"choices": [{"text": "", "finish_reason": "length"}]}), SSE
            )
        }
    )
    request = ask(messages=(), raw="a", resume_text=" a", top_logprobs=2)
    whole = await answer(server.client(Kind.OPENAI), request)
    assert whole.text == " a<think> b"
    assert whole.finish.reason == "length"
    body = server.body("/v1/completions")
    assert (body["prompt"], body["logprobs"], body["max_tokens"]) == ("a a", 2, None)
    assert "messages" not in body


async def test_parts_of_a_list_as_mistral_sends_them() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    server = edge(
        delta(content=[thinking]), delta(content=[{"type": "text", "text": "Yes."}]), delta("stop")
    )
    whole = await answer(server.client(Kind.OPENAI), ask())
    assert (whole.reasoning, whole.content) == ("Hm.", "Yes.")


async def test_what_the_engine_cannot_do_is_refused_before_sending() -> None:
    server = edge(*SIMPLE)
    client = server.client(Kind.OPENAI)
    chats = RemoteModel("m", None, frozenset({Capability.CHAT}))
    for request in [
        ask(model=chats, tools=(WEATHER,)),
        ask(model=chats, raw="x"),
        ask(model=chats, json_schema={}),
        ask(model=chats, grammar="root ::= [a]"),
        ask(model=chats, top_logprobs=0),
        ask(model=chats, continue_final=True),
        ask(stop_tokens=(1,)),
        ask(ignore_eos=True),
        ask(min_tokens=2),
        ask(stop=("a", "b", "c", "d", "e")),
        ask(raw="x", suffix="y"),
        ask(raw="x", echo="prompt"),
        ask(raw=(1, 2)),
        ask(template="{{ messages }}"),
    ]:
        with pytest.raises(Unsupported):
            await answer(client, request)
    assert server.sent == []


async def test_answers_that_cannot_be_continued() -> None:
    client = edge().client(Kind.OPENAI)
    plain = RemoteModel("m", None, frozenset({Capability.CHAT}))
    for request in [
        ask(model=plain, resume_text="Hello"),
        ask(resume_text="<think>\nLet me"),
        ask(resume_text="Yes", json_schema={"type": "object"}),
        ask(
            resume_text='Yes\n\u2063<tool_call>\n{"name": "f"}\n\u2063</tool_call>',
            tools=(WEATHER,),
        ),
    ]:
        with pytest.raises(CannotContinue):
            await answer(client, request)


async def test_a_restart_is_a_new_answer_behind_the_text() -> None:
    server = edge(delta(content="Again."), delta("stop"))
    request = ask(resume_text="Lost.\n\n", restart=True, generated=5, max_tokens=6)
    whole = await answer(server.client(Kind.OPENAI), request)
    assert whole.text == "Lost.\n\nAgain."
    assert server.body(CHAT)["messages"] == [{"role": "user", "content": "Hello"}]
    assert server.body(CHAT)["max_tokens"] == 6


async def test_no_tokens_left() -> None:
    client = edge().client(Kind.VLLM)
    whole = await answer(client, ask(resume_text="Hello", generated=6, max_tokens=6))
    assert (whole.pieces, whole.finish.reason) == ([], "length")


async def test_closing_the_answer_closes_the_connection() -> None:
    body = Chunks([sse(delta(content=str(at)), done=False) for at in range(50)])
    generator = Edge({CHAT: stream(body, SSE)}).client(Kind.OPENAI).generate(ask())
    first = await anext(generator)
    assert isinstance(first, Piece)
    assert first.text == "0"
    await generator.aclose()
    assert body.closed
    assert body.sent < 50


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ((), Interrupted),
        ((delta(content="Hi"),), Interrupted),
        ((delta("abort"),), Interrupted),
        (("{",), Lied),
        (("[]",), Lied),
        (('{"choices": [{"delta": {"content": 5}}]}',), Lied),
        (('{"usage": {"prompt_tokens": -5}}',), Lied),
        (("[" * 9000,), Lied),
        (({"error": {"message": "out of memory", "code": 500}},), Refused),
        (({"error": "overloaded", "code": 503},), Refused),
        (
            ({"error": {"message": "This model's maximum context length is 10", "code": 400}},),
            TooLong,
        ),
    ],
)
async def test_streams_that_fail(events: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        await answer(edge(*events).client(Kind.OPENAI), ask())


async def test_errors_in_streams_have_their_status_and_message() -> None:
    with pytest.raises(Refused) as raised:
        await answer(edge({"error": {"message": "busy", "code": 503}}).client(Kind.OPENAI), ask())
    assert (raised.value.status, raised.value.message, raised.value.busy) == (503, "busy", True)
    old = b'error: {"code": 500, "message": "slot failed", "type": "server_error"}\n\n'
    with pytest.raises(Refused, match="slot failed"):
        await answer(Edge({CHAT: stream(old, SSE)}).client(Kind.LLAMA_SERVER), ask())


async def test_a_connection_that_breaks_after_the_reason() -> None:
    body = Chunks([sse(delta(content="Hi"), delta("stop"), done=False)], httpx.ReadError("reset"))
    whole = await answer(Edge({CHAT: stream(body, SSE)}).client(Kind.OPENAI), ask())
    assert (whole.content, whole.finish.completion_tokens) == ("Hi", 1)


async def test_a_connection_that_breaks_before_the_reason() -> None:
    body = Chunks([sse(delta(content="Hi"), done=False)], httpx.ReadError("reset"))
    with pytest.raises(Interrupted):
        await answer(Edge({CHAT: stream(body, SSE)}).client(Kind.OPENAI), ask())


@pytest.mark.parametrize(
    "message",
    [
        (
            "This model's maximum context length is 100 tokens. However, you requested 120 tokens "
            "(20 in the messages, 100 in the completion)."
        ),
        (
            "max_tokens=100 cannot be greater than max_model_len=64. Please request fewer output "
            "tokens. (parameter=max_tokens, value=100)"
        ),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum "
            "context length is 64 tokens and your request has 20 input tokens"
        ),
    ],
)
async def test_a_limit_that_does_not_fit_behind_the_prompt(message: str) -> None:
    """Engines refuse prompt and limit that exceed the context together."""
    refused = httpx.Response(400, json={"error": {"message": message}})
    server = Edge({CHAT: [refused, stream(sse(*SIMPLE), SSE)]})
    whole = await answer(server.client(Kind.OPENAI), ask(max_tokens=100))
    assert whole.content == "Hi"
    assert [body.get("max_tokens") for _, body in server.sent] == [100, None]


async def test_a_prompt_that_is_too_long() -> None:
    message = (
        "This model's maximum context length is 100 tokens. However, your messages resulted in "
        "400 tokens. Please reduce the length of the messages."
    )
    refused = httpx.Response(400, json={"error": {"message": message}})
    with pytest.raises(TooLong) as raised:
        await answer(Edge({CHAT: refused}).client(Kind.OPENAI), ask())
    assert (raised.value.prompt_tokens, raised.value.context) == (400, 100)
    little = message.replace("400", "150")
    refused = httpx.Response(400, json={"error": {"message": little}})
    turns = [
        ChatMessage("system", "Rules"),
        *(ChatMessage("user" if at % 2 == 0 else "assistant", f"{at}" * 50) for at in range(9)),
    ]
    server = Edge({CHAT: [refused, refused, stream(sse(*SIMPLE), SSE)]})
    request = ask(messages=tuple(turns), overflow="keep_latest")
    whole = await answer(server.client(Kind.OPENAI), request)
    kept = server.body(CHAT)["messages"]
    assert kept[0]["content"] == "Rules"
    assert kept[-1]["content"] == "8" * 50
    assert kept[1]["role"] == "user"
    assert whole.finish.left_out == len(turns) - len(kept) > 0


async def test_discovery() -> None:
    models = {"data": [{"id": "a", "context_window": 8000}, {"id": "b"}]}
    found = (
        await Edge({"/v1/models": httpx.Response(200, json=models)})
        .client(Kind.OPENAI, context=4000)
        .discover()
    )
    assert [(one.name, one.context_length) for one in found.models] == [("a", 4000), ("b", 4000)]
    assert found.models[0].capabilities == {Capability.CHAT, Capability.TOOLS}


def floats(*values: float) -> str:
    return base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()


async def test_embeddings() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["input"]
        rows = [{"index": at, "embedding": floats(3, 4)} for at in range(len(texts))]
        body = {"data": rows[::-1], "usage": {"prompt_tokens": len(texts)}}
        return httpx.Response(200, json=body)

    server = Edge({"/v1/embeddings": reply})
    found = await server.client(Kind.OPENAI).embed(MODEL, ["text"] * 100)
    assert (found.size, found.tokens, len(server.sent)) == (2, 100, 2)
    assert np.frombuffer(found.data, "<f4").reshape(100, 2)[7].tolist() == pytest.approx([0.6, 0.8])
    none = await server.client(Kind.OPENAI).embed(MODEL, [])
    assert none.data == b""


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"index": 1, "embedding": [1.0]}],
        [{"index": 0, "embedding": []}],
        [{"index": 0, "embedding": "!"}],
        [{"index": 0, "embedding": "AAA="}],
        [{"index": 0, "embedding": floats(float("nan"))}],
    ],
)
async def test_embeddings_that_are_none(rows: list[Any]) -> None:
    server = Edge({"/v1/embeddings": httpx.Response(200, json={"data": rows})})
    with pytest.raises(Lied):
        await server.client(Kind.OPENAI).embed(MODEL, ["text"])


async def test_a_finish_is_the_only_end() -> None:
    client = edge(*SIMPLE).client(Kind.OPENAI)
    items = [item async for item in client.generate(ask())]
    assert [type(item) for item in items] == [Piece, Finish]
