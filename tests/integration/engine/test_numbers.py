"""Drawing from given logits, over llama.cpp's stages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.contract.backend import ComputeError
from chatsite.engine.contract.messages import Load, SamplingParams
from chatsite.engine.contract.tuning import Tuning
from tests.support import families


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    path = families.write(tmp_path_factory.mktemp("models") / "qwen2", "qwen2")
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    load = Load("m", str(path), tuning, context=256, slots=1, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    yield backend
    backend.close()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("top_k", [0, 40])
@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_nan_logits_are_an_error_and_no_token(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch, temperature, top_k, number
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, seed=1)
    sampler = backend.sampler(params, [], [])
    logits = np.full(backend.vocabulary.size, number, dtype=np.float32)
    monkeypatch.setattr(sampler, "logits", lambda row: logits)
    with pytest.raises(ComputeError, match="finite"):
        sampler.sample(0)
    logits[:] = 0
    logits[7] = 50
    assert sampler.sample(0) == 7
    sampler.close()


@pytest.mark.parametrize(
    "stages",
    [
        {"top_p": 0.9},
        {"top_p": 0.999},
        {"typical_p": 0.8},
        {"top_p": 0.8, "min_p": 0.01},
        {"top_p": 0.95, "min_p": 0.1},
    ],
)
def test_tokens_excluded_beforehand_change_no_draw(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch, stages
) -> None:
    size = backend.vocabulary.size
    logits = (np.random.default_rng(7).standard_normal(size) * 4).astype(np.float32)

    def draws(top_k: int) -> list[int]:
        found = []
        for seed in range(100):
            every = {"top_p": 1.0, "min_p": 0.0, "temperature": 0.9, "seed": seed}
            sampler = backend.sampler(SamplingParams(**{**every, **stages}, top_k=top_k), [], [])
            monkeypatch.setattr(sampler, "logits", lambda row: logits)
            found.append(sampler.sample(0))
            sampler.close()
        return found

    narrowed = draws(0)
    # All but the least likely token, so that llama.cpp's own stages run.
    assert draws(size - 1) == narrowed
    assert len(set(narrowed)) > 3
