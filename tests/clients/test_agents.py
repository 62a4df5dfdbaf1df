"""Agents of pydantic-ai, and the requests of OpenAI's Agents SDK, instructor and LiteLLM."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.test_openai import says
from tests.support.stack import MODEL

pytestmark = pytest.mark.filterwarnings("ignore")

CALL = '<tool_call>{"name": "%s", "arguments": %s}</tool_call>'


class Person(BaseModel):
    name: str
    age: int


SAID = '{"name": "Ann", "age": 5}'


@pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel])
def model(request: pytest.FixtureRequest, async_client: AsyncOpenAI) -> Any:
    return request.param(MODEL, provider=OpenAIProvider(openai_client=async_client))


async def test_an_agent_answers(model: Any) -> None:
    agent = Agent(model, instructions="Be short.")
    answer = await agent.run("one two")
    assert answer.output == "one two"
    assert answer.usage.output_tokens == 2
    again = await agent.run("three", message_history=answer.all_messages())
    assert again.output == "three"
    async with agent.run_stream("@tokens 5") as stream:
        assert await stream.get_output() == "w1 w2 w3 w4 w5"


async def test_an_agent_calls_its_tools(model: Any) -> None:
    agent = Agent(model)
    asked: list[str] = []

    @agent.tool_plain
    def weather(city: str) -> str:
        asked.append(city)
        return f"sunny in {city}"

    answer = await agent.run("@say " + CALL % ("weather", '{"city": "Bonn"}'))
    assert asked == ["Bonn"]
    assert "sunny in Bonn" in answer.output


async def test_an_agent_gives_objects(model: Any) -> None:
    agent = Agent(model, output_type=Person)
    answer = await agent.run("@say " + CALL % ("final_result", SAID))
    assert answer.output == Person(name="Ann", age=5)


async def test_a_refusal_reaches_the_agent(model: Any) -> None:
    with pytest.raises(ModelHTTPError) as refused:
        await Agent(model).run("word " * 9000)
    assert refused.value.status_code == 400
    assert "context_length_exceeded" in str(refused.value)


def test_the_requests_of_instructor(client: OpenAI) -> None:
    """Its modes for tools, JSON and JSON schema."""
    schema = Person.model_json_schema()
    tool: Any = {"name": "Person", "description": "Extracted.", "parameters": schema}
    asked: Any = {"model": MODEL, "messages": says("@say " + CALL % ("Person", SAID))}
    answer: Any = client.chat.completions.create(
        **asked,
        tools=[{"type": "function", "function": tool}],
        tool_choice={"type": "function", "function": {"name": "Person"}},
    )
    [call] = answer.choices[0].message.tool_calls
    assert Person.model_validate_json(call.function.arguments).age == 5
    asked["messages"] = says(f"@say {SAID}")
    formats: list[Any] = [
        {"type": "json_object"},
        {"type": "json_object", "schema": schema},
        {"type": "json_schema", "json_schema": {"name": "Person", "schema": schema}},
    ]
    for wanted in formats:
        answer = client.chat.completions.create(**asked, response_format=wanted)
        assert Person.model_validate_json(answer.choices[0].message.content or "").age == 5


def test_a_run_of_the_agents_sdk(client: OpenAI) -> None:
    """A function, its call as an input item, its output, and a handoff to another agent."""
    tools: Any = [
        {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
        for name in ("weather", "transfer_to_poet")
    ]
    history: list[Any] = [{"role": "user", "content": "@say " + CALL % ("weather", "{}")}]
    asked: Any = {"model": MODEL, "instructions": "s", "tools": tools, "include": []}
    first = client.responses.create(**asked, input=history, tool_choice="required")
    [call] = first.output
    assert call.type == "function_call"
    history += [one.model_dump(exclude_unset=True) for one in first.output]
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    second = client.responses.create(**asked, input=history, parallel_tool_calls=False)
    assert "sunny" in second.output_text
    history += [one.model_dump(exclude_unset=True) for one in second.output]
    history.append({"role": "user", "content": "@say " + CALL % ("transfer_to_poet", "{}")})
    third = client.responses.create(**asked, input=history)
    assert [one.name for one in third.output if one.type == "function_call"] == ["transfer_to_poet"]


def test_litellm_recognizes_a_context_overflow(client: OpenAI) -> None:
    """LiteLLM recognizes a context overflow by parts of the error message."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=says("word " * 9000))
    text = str(refused.value).lower()
    assert "this model's maximum context length is" in text
    assert "prompt is too long" in text
