"""openai-python's helpers and examples: parsing, event streams, raw responses."""

from __future__ import annotations

from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.clients.test_openai import says
from tests.support.stack import MODEL


class Person(BaseModel):
    name: str
    age: int


SAID = '{"name": "Ann", "age": 5}'
TOOL = '<tool_call>{"name": "Person", "arguments": {"name": "Ann", "age": 5}}</tool_call>'
ANN = Person(name="Ann", age=5)


def test_parse(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=says(f"@say {SAID}"), response_format=Person
    )
    assert answer.choices[0].message.parsed == ANN
    response = client.responses.parse(model=MODEL, input=f"@say {SAID}", text_format=Person)
    assert response.output_parsed == ANN


def test_parse_tools(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=says(f"@say {TOOL}"), tools=[openai.pydantic_function_tool(Person)]
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == ANN


def test_the_stream_helper_of_chat(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=says(f"@say {SAID}"), response_format=Person
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert final.choices[0].message.parsed == ANN


def test_the_stream_helper_of_chat_with_tools(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=says(f"@say {TOOL}"), tools=[openai.pydantic_function_tool(Person)]
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    [call] = final.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == ANN


def test_the_stream_helper_of_responses(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="one two") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == "one two"


async def test_the_async_helpers(async_client: AsyncOpenAI) -> None:
    async with async_client.chat.completions.stream(
        model=MODEL, messages=says("one two")
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "one two"
    async with async_client.responses.stream(model=MODEL, input="one two") as events:
        assert (await events.get_final_response()).output_text == "one two"


def test_raw_and_streamed_answers(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": says("one two")}
    raw = client.chat.completions.with_raw_response.create(**asked)
    assert raw.parse().choices[0].message.content == "one two"
    assert (raw.request_id or "").startswith("req_")
    with client.chat.completions.with_streaming_response.create(**asked) as answer:
        assert answer.status_code == 200
        assert b"one two" in answer.read()


def test_an_answer_is_sent_back_as_it_came(client: OpenAI) -> None:
    first = client.chat.completions.create(
        model=MODEL, messages=says(f"@say {TOOL}"), tools=[openai.pydantic_function_tool(Person)]
    ).choices[0]
    call = (first.message.tool_calls or [])[0]
    history: Any = [
        *says("q"),
        first.message,
        {"role": "tool", "tool_call_id": call.id, "content": "done"},
        *says("one two"),
    ]
    again = client.chat.completions.create(model=MODEL, messages=history)
    # The template merges the tool's result and the question into one turn.
    assert (again.choices[0].message.content or "").endswith("one two")
    response = client.responses.create(model=MODEL, input="one two")
    items: Any = [{"role": "user", "content": "q"}, *response.output, *says("three")]
    assert client.responses.create(model=MODEL, input=items).output_text == "three"


def test_allowed_tools(client: OpenAI) -> None:
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("weather", "time")
    ]
    only: Any = [{"type": "function", "function": {"name": "weather"}}]
    choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": only}}
    said = '@say <tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    answer = client.chat.completions.create(
        model=MODEL, messages=says(said), tools=tools, tool_choice=choice
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    flat: Any = [{"type": "function", **one["function"], "strict": False} for one in tools]
    named: Any = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "weather"}],
    }
    response = client.responses.create(model=MODEL, input=said, tools=flat, tool_choice=named)
    assert response.output[0].type == "function_call"
    assert msg(response.tool_choice) == named


def msg(choice: Any) -> Any:
    return choice if isinstance(choice, dict) else choice.model_dump(exclude_none=True)


def test_an_early_close_is_no_error(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=says("@tokens 2000 @delay-ms 5"), stream=True
    )
    next(stream)
    stream.close()
    assert client.models.list().data
