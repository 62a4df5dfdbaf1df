"""Ollama's API, used through Ollama's client."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import ollama
import pytest

from chatsite.engine.prompting.template import CHATML
from tests.support.gguf import split_gguf
from tests.support.stack import MODEL, Stack, wait_until


@pytest.fixture(scope="module")
def key(scripted_stack: Stack) -> str:
    scripted_stack.create_user("root", admin=True)
    scopes = "chat,embed,models,manage"
    return scripted_stack.manage("apikey", "create", "root", "--scopes", scopes).stdout.strip()


@pytest.fixture
def client(scripted_stack: Stack, key: str) -> Iterator[ollama.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with ollama.Client(scripted_stack.url, headers=headers) as client:
        yield client


@pytest.fixture
def http(scripted_stack: Stack, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=scripted_stack.url, headers=headers, timeout=30) as client:
        yield client


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_chat(client: ollama.Client) -> None:
    answer = client.chat(MODEL, say("hello there"))
    assert answer.message.content == "hello there"
    assert (answer.done, answer.done_reason, answer.model) == (True, "stop", MODEL)
    assert answer.eval_count
    assert answer.total_duration
    assert answer.total_duration > 1000


def test_chat_streamed(client: ollama.Client) -> None:
    chunks = list(client.chat(MODEL, say("@tokens 5"), stream=True))
    assert "".join(chunk.message.content or "" for chunk in chunks) == "w1 w2 w3 w4 w5"
    assert [chunk.done for chunk in chunks][-2:] == [False, True]


def test_asynchronous(scripted_stack: Stack, key: str) -> None:
    async def ask() -> str:
        headers = {"Authorization": f"Bearer {key}"}
        async with ollama.AsyncClient(scripted_stack.url, headers=headers) as client:
            stream = await client.chat(MODEL, say("one two"), stream=True)
            return "".join([str(chunk.message.content) async for chunk in stream])

    assert asyncio.run(ask()) == "one two"


def test_generate(client: ollama.Client) -> None:
    assert client.generate(MODEL, "hi you").response == "hi you"
    pieces = list(client.generate(MODEL, "a b c", system="s", stream=True))
    assert "".join(str(piece.response) for piece in pieces) == "a b c"


def test_options_reach_the_engine(client: ollama.Client) -> None:
    answer = client.generate(MODEL, "@tokens 9", options={"num_predict": 3})
    assert (answer.response, answer.done_reason) == ("w1 w2 w3", "length")


def test_load_and_unload(client: ollama.Client) -> None:
    assert client.generate(MODEL).done_reason == "load"
    (loaded,) = client.ps().models
    assert (loaded.model, loaded.context_length) == (MODEL, 4096)
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert client.generate(MODEL, "back").response == "back"


def test_how_long_a_model_stays(client: ollama.Client, scripted_stack: Stack) -> None:
    def left() -> float:
        """Return the seconds left; zero until the host has reported the model."""
        ends = [model.expires_at for model in client.ps().models if model.expires_at]
        return max(((end - datetime.now(UTC)).total_seconds() for end in ends), default=0)

    client.chat(MODEL, say("x"), keep_alive="10m")
    wait_until(lambda: 0 < left() <= 600, "the status of the host")
    # A user who may not change models can't make one unload earlier than its own setting says.
    scripted_stack.create_user("guest")
    key = scripted_stack.manage("apikey", "create", "guest").stdout.strip()
    headers = {"Authorization": f"Bearer {key}"}
    with ollama.Client(scripted_stack.url, headers=headers) as guest:
        guest.chat(MODEL, say("x"), keep_alive=0)
    wait_until(lambda: left() > 1e9, "for ever")
    client.chat(MODEL, say("x"), keep_alive=0)
    wait_until(lambda: not client.ps().models, "the model to leave")


def test_show_describes_a_model(client: ollama.Client) -> None:
    shown = client.show(MODEL)
    assert shown.details
    assert (shown.details.parameter_size, shown.details.quantization_level) == ("134.5M", "Q4_1")
    assert shown.capabilities == ["completion", "tools"]
    assert "<|im_start|>" in (shown.template or "")
    assert (shown.modelinfo or {})["general.architecture"] == "llama"
    (listed,) = client.list().models
    assert listed.details
    assert listed.details.family == "llama"


def test_d16_show_describes_a_model_completely(http: httpx.Client) -> None:
    shown = http.post("/api/show", json={"model": MODEL}).json()
    assert shown["license"] == "apache-2.0"
    assert f"FROM {MODEL}\nTEMPLATE " in shown["modelfile"]
    assert "<|im_start|>" in shown["modelfile"]
    assert 'LICENSE "apache-2.0"' in shown["modelfile"]
    tensors = {one["name"]: one for one in shown["tensors"]}
    assert tensors["token_embd.weight"]["shape"] == [576, 49152]
    assert tensors["token_embd.weight"]["type"]
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    whole = http.post("/api/show", json={"model": MODEL, "verbose": True}).json()["model_info"]
    assert len(whole["tokenizer.ggml.tokens"]) == len(whole["tokenizer.ggml.token_type"]) == 49152
    assert whole["tokenizer.ggml.tokens"][:2] == ["<|endoftext|>", "<|im_start|>"]
    assert whole["general.languages"] == ["en"]


def test_d16_a_modelfile_that_is_shown_makes_the_same_model(http: httpx.Client) -> None:
    text = http.post("/api/show", json={"model": MODEL}).json()["modelfile"]
    made = http.post("/api/create", json={"name": "twin", "modelfile": text, "stream": False})
    assert made.json() == {"status": "success"}
    twin = http.post("/api/show", json={"model": "twin"}).json()
    assert twin["modelfile"] == text
    assert http.request("DELETE", "/api/delete", json={"name": "twin"}).status_code == 200


@pytest.mark.parametrize(
    "options",
    [
        {"num_predict": 0},
        {"repeat_penalty": 0},
        {"temperature": 10},
        {"seed": 2**40},
        {"seed": 7.0},
        {"top_k": -1, "top_p": 1.5, "presence_penalty": 5},
    ],
)
def test_t32_options_that_ollama_accepts(client: ollama.Client, options: dict[str, float]) -> None:
    assert client.generate(MODEL, "one two", options=options).response == "one two"


def test_the_lifecycle_of_a_custom_model(client: ollama.Client) -> None:
    client.create("pirate", from_=MODEL, system="Arr.", parameters={"num_predict": 2})
    shown = client.show("pirate")
    assert 'SYSTEM "Arr."' in (shown.modelfile or "")
    assert (shown.parameters or "").split() == ["num_predict", "2"]
    assert client.chat("pirate", say("@tokens 5")).message.content == "w1 w2"
    client.copy("pirate", "corsair")
    assert {"pirate:latest", "corsair:latest"} <= {m.model for m in client.list().models}
    for name in ("pirate", "corsair"):
        client.delete(name)
    assert [m.model for m in client.list().models] == [MODEL]


def test_a_model_from_uploaded_files(
    client: ollama.Client, scripted_stack: Stack, key: str, tmp_path: Path
) -> None:
    content = split_gguf([("a", b"\1" * 64)])
    file = tmp_path / "tiny.gguf"
    file.write_bytes(content)
    digest = client.create_blob(file)

    async def again() -> str:
        headers = {"Authorization": f"Bearer {key}"}
        async with ollama.AsyncClient(scripted_stack.url, headers=headers) as sender:
            return await sender.create_blob(file)

    assert asyncio.run(again()) == digest
    told = list(client.create("sent", files={"tiny.gguf": digest}, system="Arr.", stream=True))
    assert [step.status for step in told if step.status][-2:] == ["writing manifest", "success"]
    shown = client.show("sent")
    assert "Arr." in (shown.modelfile or "")
    assert digest == f"sha256:{next(m.digest for m in client.list().models)}"
    client.delete("sent")
    file.write_bytes(content[:-16])
    cut = client.create_blob(file)
    with pytest.raises(ollama.ResponseError, match="truncated"):
        client.create("sent", files={"tiny.gguf": cut})


def test_bodies_of_any_size_take_little_memory(http: httpx.Client, scripted_stack: Stack) -> None:
    block, count = bytes(1 << 16), 2000

    def body(blocks: int = count) -> Iterator[bytes]:
        """Yield a body without Content-Length, as the official client sends files."""
        return (block for _ in range(blocks))

    digest = hashlib.sha256(block * count).hexdigest()
    (server,) = scripted_stack.find("daphne")
    before = server.memory_info().rss
    address = f"/api/blobs/sha256:{digest}"
    assert http.head(address).status_code == 404
    assert http.post(address, content=body()).status_code == 201
    assert http.head(address).status_code == 200
    # Some clients double slashes.
    again = http.post(f"{scripted_stack.url}/{address}/", content=body())
    assert again.status_code == 200
    # Other bodies have a size limit, and the connection stays usable after a refusal.
    for path, status in (
        ("/api/chat", 413),
        ("/v1/chat/completions", 413),
        ("/chat/attachments/", 401),  # not signed in
    ):
        assert http.post(path, content=body(600)).status_code == status, path
    stranger = httpx.post(f"{scripted_stack.url}{address}", content=body(900))
    assert stranger.status_code == 401
    wrong = f"/api/blobs/sha256:{'1' * 64}"
    refused = http.post(wrong, content=body(10))
    assert (refused.status_code, list(refused.json())) == (400, ["error"])
    with pytest.raises(ZeroDivisionError):
        http.post(wrong, content=(block[: 1 // (300 - i)] for i in range(400)))
    assert http.head(wrong).status_code == 404
    assert http.head("/api/blobs/sha256:1").status_code == 400
    assert server.memory_info().rss - before < 64 << 20
    models = scripted_stack.data_dir / "models"
    wait_until(lambda: not list(models.glob("*.part")), "nothing to be left")


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("chat", {"model": "nothing", "messages": say("x")}, 404, "model 'nothing' not found"),
        ("embed", {"model": "no", "input": "x"}, 404, "model 'no' not found"),
        ("chat", {}, 400, "model is required"),
        ("show", {}, 400, "model is required"),
        ("generate", {"prompt": "x"}, 404, "model '' not found"),
        ("create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ("push", {}, 400, "model is required"),
        ("create", {"model": "x", "from": MODEL, "adapters": {"a": "b"}}, 400, "ADAPTER"),
        ("create", {"model": "x", "from": MODEL, "system": "a\0b"}, 400, "NUL"),
        ("create", {"model": "x", "files": {"a": "sha256:1"}}, 400, "invalid digest format"),
        ("create", {"model": "x", "files": {"a": f"sha256:{'1' * 64}"}}, 400, "was not found"),
        ("push", {"model": "x"}, 501, "not supported"),
        ("generate", {"model": MODEL, "prompt": "x", "format": 3}, 400, "invalid format"),
        ("generate", {"model": MODEL, "prompt": "x", "keep_alive": "5"}, 400, "invalid duration"),
        (
            "generate",
            {"model": MODEL, "prompt": "x", "options": {"top_k": "a"}},
            400,
            'option "top_k" must be of type integer',
        ),
        ("generate", {"model": MODEL, "prompt": 3}, 400, "prompt"),
        (
            "generate",
            {"model": MODEL, "prompt": "x", "raw": True, "system": "s"},
            400,
            "raw mode does not support template, system, or context",
        ),
    ],
)
def test_refusals(
    http: httpx.Client, path: str, body: dict[str, object] | None, status: int, error: str
) -> None:
    answer = http.post(f"/api/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert error in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("embed", {"model": MODEL, "input": 5}, 400, "invalid input type"),
        ("embed", {"model": MODEL, "input": ["x", 5]}, 400, "invalid input type"),
        ("chat", None, 400, "missing request body"),
        (
            "chat",
            {"model": MODEL, "messages": say("x"), "logprobs": True, "top_logprobs": 21},
            400,
            "top_logprobs must be between 0 and 20",
        ),
        (
            "chat",
            {"model": MODEL, "messages": say("x"), "think": True},
            400,
            f'"{MODEL}" does not support thinking',
        ),
        (
            "generate",
            {"model": MODEL, "prompt": "x", "think": "high"},
            400,
            f'"{MODEL}" does not support thinking',
        ),
        (
            "generate",
            {"model": MODEL, "prompt": "a", "suffix": "b"},
            400,
            "does not support insert",
        ),
        (
            "create",
            {"model": "made:-2", "from": MODEL},
            400,
            "The tag '-2' in the model name is invalid: use at most 80 of the",
        ),
    ],
)
def test_d15_d17_refusals_have_ollamas_words(
    http: httpx.Client, path: str, body: dict[str, object] | None, status: int, error: str
) -> None:
    test_refusals(http, path, body, status, error)


def test_d15_reasoning_can_be_switched_off(client: ollama.Client) -> None:
    assert client.chat(MODEL, say("one two"), think=False).message.content == "one two"


def test_missing_permissions_are_refused(scripted_stack: Stack, http: httpx.Client) -> None:
    assert httpx.get(f"{scripted_stack.url}/api/tags").status_code == 401
    scripted_stack.create_user("alice")
    for scopes, words in (("models", "scope “manage”"), ("models,manage", "administrator")):
        key = scripted_stack.manage("apikey", "create", "alice", "--scopes", scopes).stdout.strip()
        headers = {"Authorization": f"Bearer {key}"}
        with (
            ollama.Client(scripted_stack.url, headers=headers) as client,
            pytest.raises(ollama.ResponseError, match=words) as refused,
        ):
            client.create("mine", from_=MODEL)
        assert refused.value.status_code == 403
    assert http.get("/api/version").json()["version"]
    assert http.get("/api/fly").status_code == 404


def test_h3_a_chat_template_is_accepted_only_with_the_permission_to_add_models(
    scripted_stack: Stack, client: ollama.Client
) -> None:
    own = "{# mine #}" + CHATML
    assert client.generate(MODEL, "hi", template=own).response == "hi"
    scripted_stack.create_user("carol")
    key = scripted_stack.manage("apikey", "create", "carol").stdout.strip()
    with ollama.Client(scripted_stack.url, headers={"Authorization": f"Bearer {key}"}) as carol:
        # Neither is parsed: a Go template is refused before it is converted.
        for template in (own, "{{ .Prompt }}{{" + " " * 50):
            with pytest.raises(ollama.ResponseError, match="Only users who may add") as refused:
                carol.generate(MODEL, "hi", template=template)
            assert refused.value.status_code == 403
        assert carol.generate(MODEL, "hi").response == "hi"
        assert carol.generate(MODEL, "hi", template="").response == "hi"


@pytest.mark.usefixtures("key")
def test_the_command_line(scripted_stack: Stack) -> None:
    manage = scripted_stack.manage
    assert manage("models", "load", MODEL).stdout.strip() == f"{MODEL} is loaded."
    assert "ready" in manage("models", "ps").stdout
    assert manage("models", "run", MODEL, "@tokens 3").stdout == "w1 w2 w3\n"
    piped = manage("models", "run", "--verbose", MODEL, "and", "these", stdin="one\ntwo\n").stdout
    assert piped.splitlines()[:4] == ["one", "two", "", "and these"]
    assert "tokens/s" in piped
    assert manage("models", "unload", MODEL).stdout.strip() == f"{MODEL} is not loaded."


def test_embed(client: ollama.Client) -> None:
    found = client.embed(MODEL, ["red green", "green red", "blue"])
    red, again, blue = found.embeddings
    assert list(red) == pytest.approx(list(again))
    assert list(red) != pytest.approx(list(blue))
    assert found.prompt_eval_count == 5
    assert found.total_duration
    assert found.load_duration is not None
    assert len(client.embeddings(MODEL, "red").embedding) == len(red)
