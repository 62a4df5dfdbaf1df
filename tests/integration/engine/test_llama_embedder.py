"""Embeddings from llama.cpp, by a model that also generates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.contract.backend import ComputeError, InputChunk
from chatsite.engine.contract.messages import Load
from chatsite.engine.contract.tuning import Tuning

FOOD = "A man is eating food."
BREAD = "A man is eating a piece of bread."
SQL = "SELECT name FROM users WHERE id = 7;"


@pytest.fixture(scope="module")
def backend(starter_model: Path) -> Iterator[LlamaBackend]:
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    load = Load("starter", str(starter_model), tuning, context=512, slots=1, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    yield backend
    backend.close()


def tokens(backend: LlamaBackend, text: str) -> list[int]:
    return backend.vocabulary.enclosed(backend.vocabulary.tokenize(text, special=False))


def vectors(backend: LlamaBackend, pieces: Sequence[InputChunk]) -> NDArray[np.float32]:
    found = backend.embedder.compute(pieces)
    return np.frombuffer(b"".join(found), dtype="<f4").reshape(-1, backend.embedder.size)


def one(backend: LlamaBackend, text: str) -> NDArray[np.float32]:
    return vectors(backend, [InputChunk(0, 0, tokens(backend, text), last=True)])[0]


def test_similar_texts_are_nearer_than_different_ones(backend):
    food, bread, sql = (one(backend, text) for text in (FOOD, BREAD, SQL))
    assert np.linalg.norm([food, bread, sql], axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert food @ bread > food @ sql + 0.1


def test_a_batch_gives_the_same_vectors_as_single_texts(backend):
    texts = [FOOD, SQL, BREAD]
    pieces = [InputChunk(n, 0, tokens(backend, text), last=True) for n, text in enumerate(texts)]
    for vector, text in zip(vectors(backend, pieces), texts, strict=True):
        assert vector @ one(backend, text) > 0.999


def test_a_text_in_pieces_gives_the_same_vector_as_whole(backend):
    text = f"{FOOD} {SQL} {BREAD}"
    whole = one(backend, text)
    all_tokens = tokens(backend, text)
    assert not backend.embedder.compute([InputChunk(3, 0, all_tokens[:9], last=False)])
    other = InputChunk(0, 0, tokens(backend, FOOD), last=True)
    rest = InputChunk(3, 9, all_tokens[9:], last=True)
    found = vectors(backend, [rest, other])
    assert found[0] @ whole > 0.999
    assert found[1] @ one(backend, FOOD) > 0.999


def test_a_call_that_fails_is_an_error_and_the_next_one_works(backend):
    before = one(backend, FOOD)
    with pytest.raises(ComputeError, match="returned"):
        backend.embedder.compute([InputChunk(0, 5, tokens(backend, FOOD), last=False)] * 2)
    backend.embedder.clear()
    assert one(backend, FOOD) @ before > 0.999
