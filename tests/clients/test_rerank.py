"""`/v1/rerank` against the running product, with the scripted model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clients.conftest import new_key
from tests.support import rank_model
from tests.support.stack import MODEL, Stack

NAME = "tiny-rerank:latest"
TEXTS = ["a blue sky", {"text": "red boats in the red sea"}, "the red sky", "nothing"]


@pytest.fixture(scope="module")
def http(api_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    path = tmp_path_factory.mktemp("rank") / "rank.gguf"
    rank_model.write(path, rank_model.tensors())
    api_stack.manage("models", "import", str(path), "--name", NAME, "--if-missing")
    headers = {"Authorization": f"Bearer {new_key(api_stack)}"}
    with httpx.Client(base_url=api_stack.url, headers=headers, timeout=60) as client:
        yield client
    api_stack.manage("models", "rm", NAME)


def test_documents_are_sorted_by_relevance(http: httpx.Client) -> None:
    asked = {"model": NAME, "query": "the red sky", "documents": TEXTS, "return_documents": True}
    for path in ("/v1/rerank", "/rerank", "/v1/reranking"):
        answer = http.post(path, json=asked)
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert [one["index"] for one in results] == [2, 1, 0, 3]
        assert results[0]["document"] == {"text": "the red sky"}
        scores = [one["relevance_score"] for one in results]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert answer.json()["usage"]["total_tokens"] > 0


def test_top_n_limits_the_results(http: httpx.Client) -> None:
    asked = {"model": NAME, "query": "sky", "documents": TEXTS, "top_n": 2}
    results = http.post("/v1/rerank", json=asked).json()["results"]
    assert [one["index"] for one in results] == [0, 2]
    assert "document" not in results[0]


def test_what_a_reranker_and_other_models_cannot_do_is_refused(http: httpx.Client) -> None:
    asked = {"query": "sky", "documents": TEXTS}
    answer = http.post("/v1/rerank", json={**asked, "model": MODEL})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_a_reranker")
    answer = http.post("/v1/embeddings", json={"model": NAME, "input": "sky"})
    assert answer.status_code == 400
    assert "/v1/rerank" in answer.json()["error"]["message"]
    refused: list[dict[str, Any]] = [{"documents": []}, {"query": ""}, {"top_n": 0}]
    for wrong in refused:
        assert http.post("/v1/rerank", json={**asked, "model": NAME, **wrong}).status_code == 400
