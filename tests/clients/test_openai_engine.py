"""The official `openai` client through the whole stack, where the answer depends on the engine."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.clients.test_openai import says
from tests.support.stack import MODEL


def test_embeddings_as_the_client_asks_for_them(client: OpenAI) -> None:
    found = client.embeddings.create(model=MODEL, input=["red green", "green red", "blue"])
    red, again, blue = [one.embedding for one in found.data]
    assert red == pytest.approx(again)
    assert red != pytest.approx(blue)
    assert sum(value * value for value in red) == pytest.approx(1, abs=1e-5)
    assert found.usage.total_tokens == 5
    short = client.embeddings.create(model=MODEL, input="red", dimensions=8)
    assert len(short.data[0].embedding) == 8
    plain = client.embeddings.create(model=MODEL, input="red green", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(red, abs=1e-6)


def test_embeddings_of_inputs_that_are_too_long(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input="word " * 20_000)
    assert caught.value.code == "context_length_exceeded"


def test_a_call_of_a_tool(client: OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    asked = '@say I look.<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call>'
    answer = client.chat.completions.create(model=MODEL, messages=says(asked), tools=tools)
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.")
    assert choice.message.tool_calls
    call: Any = choice.message.tool_calls[0]
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Bonn"}
    stream = client.chat.completions.create(
        model=MODEL, messages=says(asked), tools=tools, stream=True
    )
    made = [
        one for chunk in stream for choice in chunk.choices for one in choice.delta.tool_calls or []
    ]
    assert [one.function.name for one in made if one.function] == ["weather"]


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_cover_every_token(client: OpenAI, stream: bool) -> None:
    common: Any = {
        "model": MODEL,
        "messages": says("one two three four"),
        "logprobs": True,
        "top_logprobs": 3,
    }
    if stream:
        content = [
            token
            for chunk in client.chat.completions.create(**common, stream=True)
            for choice in chunk.choices
            if choice.logprobs
            for token in choice.logprobs.content or []
        ]
    else:
        answer = client.chat.completions.create(**common)
        content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == "one two three four"
    assert all(len(token.top_logprobs) == 3 for token in content)


def test_a_field_refused_by_the_model_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        client.chat.completions.create(model=MODEL, messages=says("x"), logit_bias={str(2**30): 1})
