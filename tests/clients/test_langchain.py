"""LangChain's standard tests of chat models and embeddings, and its agents."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
)
from openai import DefaultAsyncHttpxClient
from pydantic import BaseModel

from tests.support.stack import MODEL, Stack

# Its packages warn about each other's versions.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    """Close what clients left open, within the test that created them."""
    yield
    gc.collect()


CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'


def openai_params(stack: Stack, key: str) -> dict[str, Any]:
    return {"base_url": f"{stack.url}/v1", "api_key": key, "model": MODEL, "max_retries": 0}


def ollama_params(stack: Stack, key: str) -> dict[str, Any]:
    headers = {"headers": {"Authorization": f"Bearer {key}"}}
    return {"base_url": stack.url, "model": MODEL, "client_kwargs": headers}


class _Reached:
    """Takes the URL and key of the product under test before the model is created."""

    stack: Stack
    key: str
    http: DefaultAsyncHttpxClient

    @pytest.fixture(autouse=True)
    async def _reach(self, api_stack: Stack, key: str) -> AsyncIterator[None]:
        self.stack, self.key = api_stack, key
        # LangChain's own client outlives the event loop of a test.
        async with DefaultAsyncHttpxClient() as self.http:
            yield


class _Scripted(_Reached, ChatModelIntegrationTests):
    """The model is scripted: it makes calls only when a test tells it to."""

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return MODEL


class TestChatOpenAI(_Scripted):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # Except at OpenAI's address it does not request usage by default.
        own = {"http_async_client": self.http, "stream_usage": True}
        return {**openai_params(self.stack, self.key), **own}


class TestChatOpenAIResponses(TestChatOpenAI):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}


class TestChatOllama(_Scripted):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOllama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return ollama_params(self.stack, self.key)


class TestOpenAIEmbeddings(_Reached, EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        # It would count tokens as OpenAI's models do, and download their files for it.
        own = {"check_embedding_ctx_length": False, "http_async_client": self.http}
        return {**openai_params(self.stack, self.key), **own}


class TestOllamaEmbeddings(_Reached, EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OllamaEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return ollama_params(self.stack, self.key)


# Directives for the scripted model.


@pytest.fixture(params=["chat", "responses", "ollama"])
def model(request: pytest.FixtureRequest, api_stack: Stack, key: str) -> BaseChatModel:
    if request.param == "ollama":
        return ChatOllama(**ollama_params(api_stack, key))
    responses = request.param == "responses"
    return ChatOpenAI(**openai_params(api_stack, key), use_responses_api=responses)


@tool
def weather(city: str) -> str:
    """What the weather is."""
    return f"sunny in {city}"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_answered(model: BaseChatModel, streamed: bool) -> None:
    bound = model.bind_tools([weather])
    asked: list[Any] = [HumanMessage(f"@say I look.{CALL}")]
    if streamed:
        chunks = list(bound.stream(asked))
        whole: Any = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
    else:
        whole = bound.invoke(asked)
    [call] = whole.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Köln"})
    made = AIMessage("I look.", tool_calls=whole.tool_calls)
    told = bound.invoke(
        [*asked, made, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    )
    assert "sunny in Köln" in str(told.text)


def test_every_choice_of_tools_is_taken(api_stack: Stack, key: str) -> None:
    for responses in (False, True):
        model = ChatOpenAI(**openai_params(api_stack, key), use_responses_api=responses)
        for choice in ("auto", "any", "required", "weather", True, "none"):
            answer = model.bind_tools([weather], tool_choice=choice).invoke(f"@say {CALL}")
            calls = [call["args"] for call in answer.tool_calls]
            assert calls == ([] if choice == "none" else [{"city": "Köln"}])


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_answers_of_a_shape(model: BaseChatModel, method: str) -> None:
    said = '{"name": "Ann", "age": 5}'
    if method == "function_calling":
        said = f'<tool_call>{{"name": "Person", "arguments": {said}}}</tool_call>'
    shaped: Any = model.with_structured_output(Person, method=method)
    assert shaped.invoke(f"@say {said}") == Person(name="Ann", age=5)


def test_d3_a_prompt_too_long_is_a_context_overflow(api_stack: Stack, key: str) -> None:
    for responses in (False, True):
        model = ChatOpenAI(**openai_params(api_stack, key), use_responses_api=responses)
        with pytest.raises(ContextOverflowError):
            model.invoke("word " * 9000)
        with pytest.raises(ContextOverflowError):
            list(model.stream("word " * 9000))
