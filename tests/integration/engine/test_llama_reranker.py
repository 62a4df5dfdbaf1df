"""Scores of a reranker on llama.cpp, compared with the same network in numpy."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.batching.embedding import EmbedQueue
from chatsite.engine.batching.speed import SpeedMeter
from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.contract.messages import Embed, Embedded, Load, ToHost
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.embed_inputs import EmbedBuilder
from models_admin import facts
from models_admin.gguf import header as gguf_header
from tests.support import rank_model

QUERY = "is a fish green"
TEXTS = ("a fish is green", "blue sky", "red boat is a red boat", "sky sky sky green")
VALUES = rank_model.tensors()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rank") / "rank.gguf"
    rank_model.write(path, VALUES)
    return path


@pytest.fixture(scope="module")
def backend(model: Path) -> Iterator[LlamaBackend]:
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    load = Load("rank", str(model), tuning, context=64, slots=1, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    yield backend
    backend.close()


def test_scores_equal_those_of_an_independent_computation(backend):
    frames: list[ToHost] = []
    queue = EmbedQueue(
        backend.embedder, frames.append, target_ms=200, clock=lambda: 0.0, speed=SpeedMeter()
    )
    builder = EmbedBuilder(backend.vocabulary, backend.embedder)
    queue.submit(builder.prepare(Embed("r", "ann", TEXTS, True, query=QUERY), 0.0))
    while not queue.idle:
        queue.step(None)
    (end,) = frames
    assert isinstance(end, Embedded)
    assert end.size == 1
    expected = [rank_model.score(VALUES, QUERY, text) for text in TEXTS]
    assert max(expected) - min(expected) > 0.05
    scores = struct.unpack(f"<{len(TEXTS)}f", end.vectors)
    assert scores == pytest.approx(expected, abs=5e-3)


def test_a_reranker_writes_no_text_and_computes_no_embeddings(backend):
    assert not backend.facts.generates
    with pytest.raises(BadParameters, match="is a reranker"):
        EmbedBuilder(backend.vocabulary, backend.embedder).prepare(Embed("e", "a", ("sky",)), 0.0)


def test_a_reranker_is_recognized_by_its_header(model):
    with model.open("rb") as file:
        header = gguf_header.read_header(file, model.stat().st_size)
    assert facts.read_nature(facts.Facts(header, "", 1)).abilities == ("rerank",)
