"""Ollama's API, used through Ollama's own client."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import ollama
import pytest

from tests.support.gguf import split_gguf
from tests.support.stack import MODEL, Stack, wait_until


@pytest.fixture(scope="module")
def key(scripted_stack: Stack) -> str:
    scripted_stack.create_user("root", admin=True)
    return scripted_stack.manage("apikey", "create", "root").stdout.strip()


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
        """Zero until the host has told of the model."""
        ends = [model.expires_at for model in client.ps().models if model.expires_at]
        return max(((end - datetime.now(UTC)).total_seconds() for end in ends), default=0)

    client.chat(MODEL, say("x"), keep_alive="10m")
    wait_until(lambda: 0 < left() <= 600, "the status of the host")
    # Whoever may not change models can't make one leave sooner than its own setting says.
    scripted_stack.create_user("guest")
    key = scripted_stack.manage("apikey", "create", "guest").stdout.strip()
    headers = {"Authorization": f"Bearer {key}"}
    with ollama.Client(scripted_stack.url, headers=headers) as guest:
        guest.chat(MODEL, say("x"), keep_alive=0)
    wait_until(lambda: left() > 1e9, "for ever")
    client.chat(MODEL, say("x"), keep_alive=0)
    wait_until(lambda: not client.ps().models, "the model to leave")


def test_what_a_model_says_of_itself(client: ollama.Client) -> None:
    shown = client.show(MODEL)
    assert shown.details
    assert (shown.details.parameter_size, shown.details.quantization_level) == ("134.5M", "Q4_1")
    assert shown.capabilities == ["completion", "tools"]
    assert "<|im_start|>" in (shown.template or "")
    assert (shown.modelinfo or {})["general.architecture"] == "llama"
    (listed,) = client.list().models
    assert listed.details
    assert listed.details.family == "llama"


def test_the_life_of_a_custom_model(client: ollama.Client) -> None:
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


def test_a_model_of_files_that_were_sent(
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
    with pytest.raises(ollama.ResponseError, match="cut off"):
        client.create("sent", files={"tiny.gguf": cut})


def test_bodies_of_any_size_take_little_memory(http: httpx.Client, scripted_stack: Stack) -> None:
    block, count = bytes(1 << 16), 2000

    def body(blocks: int = count) -> Iterator[bytes]:
        """Without a length, as the official client sends files."""
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
    # What is no upload has a limit, and the connection goes on behind it.
    for path in ("/api/chat", "/v1/chat/completions", "/chat/attachments/"):
        assert http.post(path, content=body(600)).status_code == 413, path
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
        ("embed", {"model": "no", "input": "x"}, 404, 'model "no" not found, try pulling it first'),
        ("chat", {}, 400, "model is required"),
        ("show", {}, 400, "model is required"),
        ("generate", {"prompt": "x"}, 404, "model '' not found"),
        ("create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ("push", {}, 400, "model is required"),
        ("create", {"model": "x", "from": MODEL, "adapters": {"a": "b"}}, 400, "ADAPTER"),
        ("create", {"model": "x", "from": MODEL, "system": "a\0b"}, 400, "NUL"),
        ("create", {"model": "x", "files": {"a": "sha256:1"}}, 400, "invalid digest format"),
        ("create", {"model": "x", "files": {"a": f"sha256:{'1' * 64}"}}, 400, "is not here"),
        ("push", {"model": "x"}, 501, "no push"),
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
    http: httpx.Client, path: str, body: dict[str, object], status: int, error: str
) -> None:
    answer = http.post(f"/api/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert error in answer.json()["error"]


def test_who_may_not(scripted_stack: Stack, http: httpx.Client) -> None:
    assert httpx.get(f"{scripted_stack.url}/api/tags").status_code == 401
    scripted_stack.create_user("alice")
    key = scripted_stack.manage("apikey", "create", "alice").stdout.strip()
    headers = {"Authorization": f"Bearer {key}"}
    with (
        ollama.Client(scripted_stack.url, headers=headers) as client,
        pytest.raises(ollama.ResponseError) as refused,
    ):
        client.create("mine", from_=MODEL)
    assert refused.value.status_code == 403
    assert http.get("/api/version").json()["version"]
    assert http.get("/api/fly").status_code == 404


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
