"""Embeddings from engine children over the scripted backend."""

from __future__ import annotations

from chatsite.engine.client import EngineClient
from chatsite.engine.contract.messages import Embed, Embedded, Failed
from tests.support.children import answer, ask, load, vectors


async def test_vectors_come_over_the_pipe(client):
    end = await vectors(client, Embed("e", "ann", ("one two", "three", (97,))))
    assert isinstance(end, Embedded)
    assert (end.size, end.tokens, len(end.vectors)) == (64, 4, 3 * 64 * 4)


async def test_an_input_that_does_not_fit_is_refused_with_its_figures(client):
    end = await vectors(client, Embed("e", "ann", ("word " * 600,)))
    assert isinstance(end, Failed)
    assert end.code == "context_length_exceeded"
    assert end.details["prompt_tokens"] > end.details["context"] == 512
    end = await vectors(client, Embed("f", "ann", ("word " * 600,), truncate=True))
    assert isinstance(end, Embedded)
    assert end.tokens == 512


async def test_a_model_for_vectors_alone_says_so_when_asked_for_text(clients, model):
    client = EngineClient("scripted", backend="scripted")
    clients.append(client)
    loaded = await client.start(load(model("@embeds")))
    assert loaded.embedding_size == 64
    await client.send(ask("g", "hello"))
    _, end = await answer(client, "g")
    assert isinstance(end, Failed)
    assert end.code == "request_refused"
    assert "embedding model" in end.message
    assert isinstance(await vectors(client, Embed("e", "ann", ("word",))), Embedded)
