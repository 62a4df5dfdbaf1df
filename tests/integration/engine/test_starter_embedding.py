"""The starter embedding model, compared with vectors computed from its original weights.

`tests/cases/minilm_vectors.json` has them as base64 of float16, computed in numpy from the
safetensors file with the tokenizer of Hugging Face.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.contract.backend import InputChunk
from chatsite.engine.contract.messages import Load
from chatsite.engine.contract.tuning import Tuning

CASES = Path(__file__).parents[2] / "cases" / "minilm_vectors.json"


def test_vectors_equal_those_of_the_original_weights(embedding_model: Path) -> None:
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    load = Load("m", str(embedding_model), tuning, context=512, slots=1, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    try:
        assert backend.embedder.size == 384
        assert backend.embedder.alone
        for text, encoded in json.loads(CASES.read_text()).items():
            expected = np.frombuffer(base64.b64decode(encoded), "<f2").astype(np.float32)
            tokens = backend.vocabulary.tokenize(text, special=False)
            chunk = InputChunk(0, 0, backend.vocabulary.enclosed(tokens), last=True)
            vector = np.frombuffer(backend.embedder.compute([chunk])[0], "<f4")
            assert float(vector @ expected) > 0.999
    finally:
        backend.close()
