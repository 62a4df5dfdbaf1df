"""Requests of clients for llama-server, vLLM, TGI and SGLang, after those servers' own tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.clients.test_openai import says
from tests.support.stack import MODEL, Stack, wait_until

PROMPT = "<|im_start|>user\n@say so it is<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def http(api_stack: Stack, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=api_stack.url, headers=headers, timeout=60) as client:
        yield client


# Tokens.


def tokens_of(http: httpx.Client, text: str, **more: Any) -> Any:
    answer = http.post("/tokenize", json={"content": text, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["tokens"]


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
def test_d13_tokens_of_a_text_and_back(http: httpx.Client, path: str) -> None:
    told = http.post(path, json={"model": MODEL, "content": "one two ö"}).json()
    assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), 4096)
    back = http.post(path.replace("token", "detoken"), json={"tokens": told["tokens"]}).json()
    assert back == {"content": "one two ö", "prompt": "one two ö"}


def test_d13_tokens_with_their_pieces(http: httpx.Client) -> None:
    pieces = tokens_of(http, "one ö", with_pieces=True)
    assert pieces[0]["piece"] == "one"
    # A part of a character is not valid text.
    assert [one["piece"] for one in pieces[-2:]] == [[0xC3], [0xB6]]
    vllm = {"model": MODEL, "prompt": "one two", "return_token_strs": True}
    assert http.post("/tokenize", json=vllm).json()["token_strs"] == ["one", " two"]


def test_d13_control_tokens_are_parsed_by_default(http: httpx.Client) -> None:
    [control] = tokens_of(http, "<|im_start|>")
    assert control not in tokens_of(http, "<|im_start|>", parse_special=False)


def test_d13_input_tokens_equal_the_prompt_tokens_of_the_request(
    http: httpx.Client, client: OpenAI
) -> None:
    tool = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
    chat: dict[str, Any] = {
        "model": MODEL,
        "messages": says("one two three"),
        "tools": [{"type": "function", "function": tool}],
    }
    told = http.post("/v1/chat/completions/input_tokens", json=chat).json()
    answer = client.chat.completions.create(**chat)
    assert answer.usage
    assert told["input_tokens"] == answer.usage.prompt_tokens
    messages = http.post("/tokenize", json=chat).json()
    assert messages["count"] == told["input_tokens"]
    counted = client.responses.input_tokens.count(model=MODEL, input="one two", instructions="s")
    response = client.responses.create(model=MODEL, input="one two", instructions="s")
    assert response.usage
    assert (counted.object, counted.input_tokens) == (
        "response.input_tokens",
        response.usage.input_tokens,
    )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/tokenize", {}, 400),
        ("/v1/tokenize", {"content": [-1]}, 400),
        ("/v1/tokenize", {"content": "x", "model": "no/such:model"}, 404),
        ("/v1/detokenize", {"tokens": [1 << 30]}, 400),
        ("/v1/detokenize", {"tokens": "x"}, 400),
        ("/v1/chat/completions/input_tokens", {"model": MODEL, "messages": []}, 400),
        ("/v1/responses/input_tokens", {"model": "no/such:model", "input": "x"}, 404),
    ],
)
def test_d13_input_that_can_not_be_counted_is_refused(
    http: httpx.Client, path: str, body: Any, status: int
) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    bare = httpx.post(http.base_url.join(path), json=body)
    assert bare.status_code == 401


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/healthz", "/health/"])
def test_d13_health_needs_no_key(api_stack: Stack, path: str) -> None:
    answer = httpx.get(f"{api_stack.url}{path}")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


# Prompts of tokens, and echo.


def test_d10_prompts_of_tokens(http: httpx.Client, client: OpenAI) -> None:
    tokens = tokens_of(http, PROMPT)
    prompts: list[Any] = [PROMPT, tokens, [PROMPT, PROMPT], [tokens, tokens]]
    for prompt in prompts:
        answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=9)
        assert {choice.text for choice in answer.choices} == {"so it is"}
    mixed = http.post(
        "/v1/completions", json={"model": MODEL, "prompt": [*tokens[:3], PROMPT], "max_tokens": 9}
    )
    assert mixed.json()["choices"][0]["text"] == "so it is"
    beyond: Any = [[1 << 30]]
    with pytest.raises(openai.BadRequestError, match="no token"):
        client.completions.create(model=MODEL, prompt=beyond)


@pytest.mark.parametrize("stream", [False, True])
def test_d10_an_echo(client: OpenAI, stream: bool) -> None:
    asked: Any = {"model": MODEL, "prompt": PROMPT, "echo": True, "max_tokens": 2}
    answer: Any = client.completions.create(**asked, stream=stream)
    parts = answer if stream else [answer]
    text = "".join(choice.text for part in parts for choice in part.choices)
    assert text == PROMPT + "so it"


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_d10_as_lm_evaluation_harness_scores_a_continuation(
    http: httpx.Client, max_tokens: int
) -> None:
    """With its request and its parsing of the response."""
    context, continuation = tokens_of(http, "one two"), tokens_of(http, " three four")
    body = {
        "model": MODEL,
        "prompt": [context + continuation, context + continuation],
        "temperature": 0,
        "max_tokens": max_tokens,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    answer = http.post("/v1/completions", json=body).json()
    assert len(answer["choices"]) == 2
    for choice in answer["choices"]:
        found = choice["logprobs"]
        end = None if max_tokens == 0 else -1
        assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
        assert sum(found["token_logprobs"][len(context) : end]) == -0.5 * len(continuation)
        tokens = found["tokens"][len(context) : end]
        assert tokens == [" three", " four"]
        tops = found["top_logprobs"][len(context) : end]
        greedy = (token == max(top, key=top.get) for token, top in zip(tokens, tops, strict=True))
        assert all(greedy)
        assert found["text_offset"][:2] == [0, 3]


# Constraints.


@pytest.mark.parametrize(
    "constraint",
    [
        {"guided_json": {"type": "object"}},
        {"guided_choice": ["yes", "no"]},
        {"guided_regex": r"\d+"},
        {"guided_grammar": 'root ::= "x"'},
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"regex": "a|b"},
        {"format": "json"},
        {"stop_token_ids": [5]},
    ],
)
def test_d7_constraints_of_other_servers_are_taken(client: OpenAI, constraint: Any) -> None:
    """Every endpoint that generates accepts them; tests with a real model show the effect."""
    asked: Any = {"model": MODEL, "max_tokens": 2, "extra_body": constraint}
    chat = client.chat.completions.create(**{**asked, "messages": says("one two")})
    assert chat.choices[0].message.content
    assert client.completions.create(**{**asked, "prompt": PROMPT}).choices[0].text
    del asked["max_tokens"]
    assert client.responses.create(**{**asked, "input": "one two"}).output_text


@pytest.mark.parametrize(
    "wrong",
    [
        {"guided_json": {"type": "wrong"}},
        {"guided_regex": "("},
        {"guided_grammar": "root ::= ("},
        {"structured_outputs": {"grammar": "no such thing"}},
        {"guided_choice": []},
        {"bad_words": ["fool"]},
        {"include_stop_str_in_output": True},
        {"allowed_token_ids": [1]},
        {"response_format": {"type": "structural_tag"}},
    ],
)
def test_d7_constraints_that_can_not_be_kept_are_refused(http: httpx.Client, wrong: Any) -> None:
    chat = {"model": MODEL, "messages": says("x"), "max_tokens": 1, **wrong}
    raw = {"model": MODEL, "prompt": "x", "max_tokens": 1, **wrong}
    response = {"model": MODEL, "input": "x", **wrong}
    for path, body in (("chat/completions", chat), ("completions", raw), ("responses", response)):
        if path != "chat/completions" and "response_format" in wrong:
            continue
        answer = http.post(f"/v1/{path}", json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_d7_a_stop_token_ends_an_answer(http: httpx.Client, client: OpenAI) -> None:
    stop = tokens_of(http, " three")
    answer = client.chat.completions.create(
        model=MODEL, messages=says("one two three four"), extra_body={"stop_token_ids": stop}
    )
    assert answer.choices[0].message.content == "one two"
    assert answer.choices[0].finish_reason == "stop"


# Timings and progress.


def chunks(http: httpx.Client, path: str, **body: Any) -> list[dict[str, Any]]:
    answer = http.post(f"/v1/{path}", json={"model": MODEL, "stream": True, **body})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines if not line.startswith(":")]


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_d19_progress_and_timings_as_llama_server_has_them(http: httpx.Client, path: str) -> None:
    asked: Any = {"prompt": PROMPT} if path == "completions" else {"messages": says("@tokens 20")}
    sent = chunks(http, path, return_progress=True, timings_per_token=True, **asked)
    told = [chunk["prompt_progress"] for chunk in sent if "prompt_progress" in chunk]
    assert told
    assert told[-1]["processed"] == told[-1]["total"] > 0
    assert [one["processed"] for one in told] == sorted(one["processed"] for one in told)
    texts = [chunk for chunk in sent if "timings" in chunk]
    assert texts[0]["timings"]["prompt_n"] + texts[0]["timings"]["cache_n"] == told[-1]["total"]
    assert sent[-1]["timings"]["predicted_n"] >= texts[0]["timings"]["predicted_n"] >= 1
    # Nothing of it without a request, except at the end.
    plain = chunks(http, path, **asked)
    assert not any("prompt_progress" in chunk for chunk in plain)
    assert ["timings" in chunk for chunk in plain] == [False] * (len(plain) - 1) + [True]
    whole = http.post(f"/v1/{path}", json={"model": MODEL, **asked}).json()
    assert {"predicted_per_second", "prompt_n", "total"} <= set(whole["timings"])


# Request IDs.


def test_d12_every_answer_has_a_request_id(
    api_stack: Stack, http: httpx.Client, client: OpenAI
) -> None:
    asked = {"model": MODEL, "messages": says("x")}
    ids = []
    for method, path, body in (
        ("GET", "/v1/models", None),
        ("POST", "/v1/chat/completions", asked),
        ("POST", "/v1/chat/completions", {**asked, "stream": True}),
        ("POST", "/v1/chat/completions", {}),
        ("GET", "/v1/chat/completions", None),
        ("GET", "/v1/nothing-of-ours", None),
        ("GET", "/api/tags", None),
        ("POST", "/api/chat", {}),
        ("GET", "/api/fly", None),
    ):
        answer = http.request(method, path, json=body)
        ids.append(answer.headers["x-request-id"])
        assert answer.headers["x-request-id"].startswith("req_")
    ids.append(httpx.get(f"{api_stack.url}/v1/models").headers["x-request-id"])
    large = http.post("/v1/chat/completions", content=b" " * (33 << 20))
    assert large.status_code == 413
    ids.append(large.headers["x-request-id"])
    assert len({*ids}) == len(ids)
    completion = client.chat.completions.create(**asked)
    assert (completion._request_id or "").startswith("req_")
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("no/such:model")
    assert (missing.value.request_id or "").startswith("req_")


def test_d12_the_log_names_the_request(api_stack: Stack, http: httpx.Client) -> None:
    own = {"X-Request-ID": "from-a-proxy.1"}
    answer = http.post("/v1/chat/completions", json={}, headers=own)
    assert answer.headers["x-request-id"] == "from-a-proxy.1"
    wait_until(lambda: "request_id=from-a-proxy.1 " in api_stack.log, "the line of the refusal")
    for odd in ("a b", "x" * 200, "a\tb"):
        answer = http.get("/v1/models", headers={"X-Request-ID": odd})
        assert answer.headers["x-request-id"].startswith("req_")


# Log probabilities of responses.


@pytest.mark.parametrize("stream", [False, True])
def test_d8_responses_have_log_probabilities(client: OpenAI, stream: bool) -> None:
    asked: Any = {
        "model": MODEL,
        "input": "one two three",
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
    }
    if stream:
        events = list(client.responses.create(**asked, stream=True))
        found = [
            one
            for event in events
            if event.type == "response.output_text.delta"
            for one in event.logprobs
        ]
        assert [len(one.top_logprobs or ()) for one in found] == [2, 2, 2]
        [done] = [event for event in events if event.type == "response.output_text.done"]
        assert len(done.logprobs) == 3
        return
    response = client.responses.create(**asked)
    output: Any = response.output[0]
    assert "".join(one.token for one in output.content[0].logprobs) == "one two three"
    assert all(len(one.top_logprobs) == 2 for one in output.content[0].logprobs)
    plain: Any = client.responses.create(model=MODEL, input="one two three").output[0]
    assert plain.content[0].logprobs == []


# Overflow.


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": says("word " * 9000)}, "messages"),
        ("/v1/completions", {"prompt": "word " * 9000}, "prompt"),
        ("/v1/responses", {"input": "word " * 9000}, "input"),
        ("/v1/embeddings", {"input": "word " * 40_000}, "input"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_d3_a_prompt_too_long_is_named(
    http: httpx.Client, path: str, body: Any, param: str, stream: bool
) -> None:
    answer = http.post(path, json={"model": MODEL, "stream": stream, **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["param"] == param
    assert "This model's maximum context length is" in error["message"]
    assert "context_length_exceeded" in error["message"]


def test_d3_ollama_knows_it_too(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": says("word " * 9000), "truncate": False}
    error = http.post("/api/chat", json=body).json()["error"].lower()
    assert "context" in error
    assert "exceeds the context length" in error
    embed = {"model": MODEL, "input": "word " * 40_000, "truncate": False}
    assert "input length exceeds the context length" in http.post("/api/embed", json=embed).text


# Embeddings.


def test_d18_inputs_that_llama_server_accepts(http: httpx.Client) -> None:
    token = tokens_of(http, "red green")
    single: list[Any] = [[*token, " blue"], {"content": "red"}, [[*token, "blue"]]]
    for sent in (*single, ["red", [*token, "blue"]], [{"content": "red"}, {"prompt_string": "b"}]):
        answer = http.post("/v1/embeddings", json={"model": MODEL, "input": sent})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"]) == (1 if sent in single else 2)


def test_t18_the_empty_text_of_a_list_is_named(http: httpx.Client) -> None:
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": ["red", "", "blue"]})
    assert answer.status_code == 400
    assert "input 2 is empty" in answer.json()["error"]["message"]


def test_d7_fields_that_vllm_accepts_for_embeddings(http: httpx.Client) -> None:
    asked = {"model": MODEL, "input": "word " * 40_000}
    cut = http.post("/v1/embeddings", json={**asked, "truncate_prompt_tokens": -1})
    assert cut.json()["usage"]["prompt_tokens"] == 4096
    for wrong in ({"truncate_prompt_tokens": 5}, {"normalize": False}, {"embd_normalize": -1}):
        answer = http.post("/v1/embeddings", json={**asked, **wrong})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(wrong)))
