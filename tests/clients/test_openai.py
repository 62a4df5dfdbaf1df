"""The official `openai` client, with valid and invalid input."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.clients.conftest import new_key
from tests.support.stack import MODEL, Stack, wait_until


def says(text: str) -> Any:
    return [{"role": "user", "content": text}]


def open_generations(stack: Stack) -> int:
    sql = "SELECT count(*) FROM chat_generation WHERE state IN ('queued', 'running')"
    return int(str(stack.query(sql)[0][0]))


# Valid input.


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    found = client.models.retrieve(MODEL)
    assert (found.id, found.object, found.owned_by) == (MODEL, "model", "library")


@pytest.mark.parametrize(
    "odd",
    [
        {"max_tokens": -1, "stop": ["", "never"], "top_p": 0},
        {"tools": [], "tool_choice": "auto", "functions": [], "stop": ""},
        {"tools": None, "tool_choice": None, "response_format": None, "seed": None, "n": None},
        {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "verbosity": "low"},
        {"reasoning_effort": "low", "parallel_tool_calls": True, "extra_body": {"unheard_of": 1}},
    ],
)
def test_additional_fields_are_accepted(client: OpenAI, odd: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=says("one two"), **odd)
    assert answer.choices[0].message.content == "one two"


def test_a_conversation_as_clients_send_it_back(client: OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": None}}
    refusal = [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "no"}]
    messages: Any = [
        {"role": "user", "content": "q", "name": None},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "content": [{"type": "text", "text": "42"}], "tool_call_id": "c1"},
        {"role": "assistant", "content": refusal, "tool_calls": None, "audio": None},
        *says("and then"),
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    assert answer.choices[0].message.content == "and then"


def test_an_answer_comes_whole(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "one two three"}]},
        ],
        max_completion_tokens=50,
        stop=["never"],
        logit_bias={"5": -1},
        seed=7,
        user="somebody",
    )
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3
    assert answer.id.startswith("chatcmpl-")


def test_an_answer_comes_in_order_as_a_stream(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=says("@tokens 20 @delay-ms 10"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == " ".join(f"w{n}" for n in range(1, 21))
    reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 20


def test_a_stream_is_valid_to_the_byte(api_stack: Stack, key: str) -> None:
    response = httpx.post(
        f"{api_stack.url}/v1/chat/completions",
        json={"model": MODEL, "messages": says("hello"), "stream": True},
        headers={"X-Api-Key": key},
    )
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-queue-position"] == "0"
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    bodies = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {body["object"] for body in bodies} == {"chat.completion.chunk"}
    assert bodies[-1]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "stop",
    }


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices(client: OpenAI, stream: bool) -> None:
    asked: Any = {"model": MODEL, "messages": says("a b c"), "n": 3, "stream": stream}
    answer = client.chat.completions.create(**asked)
    texts = ["", "", ""]
    for part in answer if stream else [answer]:
        for choice in part.choices:
            texts[choice.index] += (choice.delta if stream else choice.message).content or ""
    assert texts == ["a b c"] * 3


def test_max_tokens_end_an_answer_by_length(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=says("@tokens 30"), max_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "w1 w2 w3 w4"


def test_responses_whole(client: OpenAI) -> None:
    response = client.responses.create(
        model=MODEL,
        instructions="Be short.",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "one two"}]}],
    )
    assert response.status == "completed"
    assert response.output_text == "one two"
    assert response.usage
    assert response.usage.output_tokens == 2


def test_responses_as_events_in_order(client: OpenAI) -> None:
    events = list(client.responses.create(model=MODEL, input="one two", stream=True))
    types = [event.type for event in events]
    assert types[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert types[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(types[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))


# Invalid input.


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "pirate", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 9}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"functions": [{"name": "weather", "parameters": {}}]}, "functions"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:,"}}],
                    }
                ]
            },
            "messages[0].content[0].type",
        ),
    ],
)
def test_the_invalid_field_is_named(client: OpenAI, change: dict[str, object], param: str) -> None:
    asked: Any = {"model": MODEL, "messages": says("x"), **change}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asked)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_broken_bodies_are_refused(api_stack: Stack, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    for path in ("chat/completions", "completions", "embeddings", "responses"):
        for content in (b"", b"{", b"[]", b"\xff\xfe", b'{"model": 1}'):
            response = httpx.post(f"{api_stack.url}/v1/{path}", content=content, headers=headers)
            assert response.status_code == 400, (path, content)
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        response = httpx.get(f"{api_stack.url}/v1/{path}", headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert httpx.get(f"{api_stack.url}/v1/nonsense").json()["error"]["code"] == "unknown_url"


def test_a_large_body_is_refused(api_stack: Stack, key: str) -> None:
    response = httpx.post(
        f"{api_stack.url}/v1/chat/completions",
        content=b" " * (33 << 20),
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_a_missing_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="no/such:model", messages=says("x"))
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such:model")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_exceeds_the_context_is_refused(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=says("word " * 9000), stream=stream)
    assert refused.value.code == "context_length_exceeded"
    body: Any = refused.value.body
    assert body["n_prompt_tokens"] > body["n_ctx"]


# Keys.


def test_requests_without_a_key_are_refused(api_stack: Stack) -> None:
    api_stack_cookie = api_stack.sign_in("alice")
    for headers in ({}, {"Cookie": api_stack_cookie}, {"Authorization": "Bearer cs-wrong"}):
        for method, path in (
            ("GET", "models"),
            ("GET", f"models/{MODEL}"),
            ("POST", "chat/completions"),
            ("POST", "completions"),
            ("POST", "embeddings"),
            ("POST", "responses"),
        ):
            url = f"{api_stack.url}/v1/{path}"
            response = httpx.request(method, url, headers=headers)
            assert response.status_code == 401, (path, headers)


def test_a_key_is_good_for_its_scopes_alone(api_stack: Stack) -> None:
    key = new_key(api_stack, "--scopes", "models")
    with OpenAI(base_url=f"{api_stack.url}/v1", api_key=key, max_retries=0) as client:
        assert list(client.models.list())
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.chat.completions.create(model=MODEL, messages=says("x"))
    assert refused.value.code == "insufficient_scope"


def test_revoking_a_key_ends_its_open_stream(api_stack: Stack) -> None:
    key = new_key(api_stack)
    with OpenAI(base_url=f"{api_stack.url}/v1", api_key=key, max_retries=0) as client:
        with client.chat.completions.create(
            model=MODEL, messages=says("@tokens 3000 @delay-ms 20"), stream=True
        ) as stream:
            next(stream)
            api_stack.manage("apikey", "revoke", key[:9])
            with pytest.raises(openai.APIError, match="revoked"):
                list(stream)
        wait_until(lambda: open_generations(api_stack) == 0, "the answer is stopped")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


# Disconnects.


@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnect_frees_the_slot(api_stack: Stack, key: str, stream: bool) -> None:
    text = "@tokens 3000 @delay-ms 20"
    asked = {"model": MODEL, "messages": says(text), "stream": stream}
    headers = {"Authorization": f"Bearer {key}"}
    # Without a stream nothing arrives before the end: the client gives up.
    timeout = 60.0 if stream else 1.0
    with httpx.Client(headers=headers) as client:
        try:
            url = f"{api_stack.url}/v1/chat/completions"
            with client.stream("POST", url, json=asked, timeout=timeout) as response:
                next(response.iter_bytes())
        except httpx.ReadTimeout:
            assert not stream
    wait_until(lambda: open_generations(api_stack) == 0, "the answer is stopped")
    sql = "SELECT state, via, message_id FROM chat_generation ORDER BY queued_at DESC LIMIT 1"
    assert api_stack.query(sql) == [("cancelled", "api", None)]


def test_completions_continue_the_prompt(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": ["one two", "three"], "max_tokens": 3}
    whole = client.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert all(choice.finish_reason in {"stop", "length"} for choice in whole.choices)
    texts = ["", ""]
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
