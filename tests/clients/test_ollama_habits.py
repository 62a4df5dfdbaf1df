"""Further uses of Ollama's API, each taken from a real client."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import ollama
import pydantic
import pytest

from chatsite.api.ollama import context
from tests.clients.test_ollama import say
from tests.support.stack import MODEL, Stack


@pytest.fixture(scope="module")
def key(api_stack: Stack) -> str:
    api_stack.create_user("curator", admin=True)
    scopes = "chat,embed,models,manage"
    return api_stack.manage("apikey", "create", "curator", "--scopes", scopes).stdout.strip()


@pytest.fixture
def client(api_stack: Stack, key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ollama.Client]:
    """Yield a client that is configured by environment variables alone, as its users do it."""
    monkeypatch.setenv("OLLAMA_HOST", api_stack.url)
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    with ollama.Client() as client:
        yield client


@pytest.fixture
def http(api_stack: Stack, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=api_stack.url, headers=headers, timeout=30) as client:
        yield client


def test_a_context_continues_the_conversation(client: ollama.Client) -> None:
    first = client.generate(MODEL, "one two", system="s")
    assert first.context
    again = client.generate(MODEL, "three", context=first.context)
    assert again.response == "three"
    assert again.context
    said = [(one.role, one.content) for one in context.unpack(again.context)]
    turns = [("user", "one two"), ("assistant", "one two"), ("user", "three")]
    assert said == [("system", "s"), *turns, ("assistant", "three")]
    assert int(again.prompt_eval_count or 0) > int(first.prompt_eval_count or 0)
    *_rest, last = client.generate(MODEL, "four", context=again.context, system="t", stream=True)
    assert context.unpack(last.context or ())[0].content == "t"
    with pytest.raises(ollama.ResponseError, match="not created by this server"):
        client.generate(MODEL, "x", context=[1, 2, 3])


def weather(city: str) -> str:
    """What the weather is.

    Args:
      city: where
    """
    return f"sunny in {city}"


def test_calls_of_tools(client: ollama.Client) -> None:
    one = '<tool_call>{"name": "weather", "arguments": {"city": "%s"}}</tool_call>'
    asked = say(f"@say I look.{one % 'Bonn'}{one % 'Rome'}")
    message = client.chat(MODEL, asked, tools=[weather]).message
    assert message.content == "I look."
    assert [call.function.arguments for call in message.tool_calls or ()] == [
        {"city": "Bonn"},
        {"city": "Rome"},
    ]
    results = [{"role": "tool", "tool_name": "weather", "content": weather("Bonn")}]
    told = client.chat(MODEL, [*asked, message, *results], tools=[weather])
    assert "sunny in Bonn" in (told.message.content or "")
    streamed = list(client.chat(MODEL, asked, tools=[weather], stream=True))
    assert "".join(chunk.message.content or "" for chunk in streamed) == "I look."
    made = [call for chunk in streamed for call in chunk.message.tool_calls or ()]
    assert [call.function.arguments["city"] for call in made] == ["Bonn", "Rome"]


def test_null_means_absent(http: httpx.Client) -> None:
    nothing = {"options": None, "format": None, "keep_alive": None, "think": None, "stream": False}
    call = {"id": None, "function": {"name": "f", "arguments": None}}
    sent: list[dict[str, object]] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_name": None, "images": None},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "hi", "thinking": None, "tool_calls": None},
    ]
    chatted = http.post("/api/chat", json={"model": MODEL, "messages": sent, **nothing})
    assert chatted.json()["message"]["content"] == "hi", chatted.text
    asked = {"prompt": "hi", "system": None, "template": None, "suffix": None, "context": None}
    generated = http.post("/api/generate", json={"model": MODEL, **asked, **nothing})
    assert generated.json()["response"] == "hi", generated.text
    embedded = http.post("/api/embed", json={"model": MODEL, "input": "hi", "dimensions": None})
    assert len(embedded.json()["embeddings"]) == 1
    assert http.post("/api/embed", json={"model": MODEL, "input": ""}).json()["embeddings"] == []


def test_clients_probe_the_server(http: httpx.Client, key: str) -> None:
    address = str(http.base_url).replace("://", f"://me:{key}@")
    assert httpx.get(address).text == "Ollama is running"
    assert httpx.head(address).status_code == 200
    assert httpx.get(f"{address}//api/tags/").json()["models"]


def test_a_modelfile_as_older_clients_send_it(http: httpx.Client) -> None:
    text = f'FROM {MODEL}\nSYSTEM """Arr."""\nPARAMETER num_predict 2\nPARAMETER stop x'
    made = http.post("/api/create", json={"name": "old", "modelfile": text, "stream": False})
    assert made.json() == {"status": "success"}
    asked = {"model": "old", "messages": say("@tokens 5"), "stream": False}
    assert http.post("/api/chat", json=asked).json()["message"]["content"] == "w1 w2"
    assert http.request("DELETE", "/api/delete", json={"name": "old"}).status_code == 200
    for bad in ("SYSTEM x", f"FROM {MODEL}\nADAPTER ./a.gguf", f"FROM {MODEL}\nPARAMETER top_k x"):
        refused = http.post("/api/create", json={"name": "old", "modelfile": bad})
        assert (refused.status_code, list(refused.json())) == (400, ["error"])
    missing = http.post("/api/create", json={"name": "old", "modelfile": "FROM nothing-of-ours"})
    assert missing.status_code == 404


class Pet(pydantic.BaseModel):
    name: str
    age: int


def test_examples_of_the_python_client(client: ollama.Client) -> None:
    """Structured outputs, history, options, embeddings, progress of a pull."""
    said = '{"name": "Luna", "age": 5}'
    shape = Pet.model_json_schema()
    answer = client.chat(MODEL, say(f"@say {said}"), format=shape, options={"temperature": 0})
    assert Pet.model_validate_json(answer.message.content or "") == Pet(name="Luna", age=5)
    history = [*say("why"), {"role": "assistant", "content": "so"}, *say("one two")]
    assert client.chat(MODEL, history, think=False).message.content == "one two"
    generated = client.generate(MODEL, "one two", logprobs=True, top_logprobs=2)
    assert [len(one.top_logprobs or ()) for one in generated.logprobs or ()] == [2, 2]
    assert len(client.embed(MODEL, ["a", "b"], dimensions=8).embeddings[1]) == 8
    steps = client.pull("no.such.host.invalid/a/b:c", stream=True)
    with pytest.raises(ollama.ResponseError):
        list(steps)
