"""Embeddings on llama.cpp, in a context of their own beside the one that writes."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

from chatsite.engine.backend import LoadError
from chatsite.engine.messages import Tuning

lib: Any = llama_cpp.llama_cpp


class LlamaEmbedder:
    """Pools as the model says, else by the mean of its tokens. ``context`` tokens per input.
    Raises `LoadError` when there is no memory for it."""

    def __init__(self, model: int, tuning: Tuning, context: int) -> None:
        self.size = int(lib.llama_model_n_embd_out(model))
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = tuning.threads
        params.embeddings = True
        params.no_perf = True
        self._context = self._open(model, params)
        if lib.llama_pooling_type(self._context) == lib.LLAMA_POOLING_TYPE_NONE:
            lib.llama_free(self._context)
            params.pooling_type = lib.LLAMA_POOLING_TYPE_MEAN
            self._context = self._open(model, params)
        self._memory = lib.llama_get_memory(self._context)

    def embed(self, tokens: Sequence[int]) -> array[float]:
        """The L2-normalised vector, of float32. Raises RuntimeError when it can't be computed."""
        if self._memory:
            lib.llama_memory_clear(self._memory, True)
        held = (lib.llama_token * len(tokens))(*tokens)  # llama.cpp only points to it
        code = lib.llama_decode(self._context, lib.llama_batch_get_one(held, len(tokens)))
        found = lib.llama_get_embeddings_seq(self._context, 0)
        if code != 0 or not found:
            raise RuntimeError(f"llama.cpp gave no embedding (code {code})")
        vector = np.ctypeslib.as_array(found, shape=(self.size,)).astype(np.float32)
        length = float(np.linalg.norm(vector))
        return array("f", (vector / length if length else vector).tobytes())

    def close(self) -> None:
        lib.llama_free(self._context)

    def _open(self, model: int, params: Any) -> int:
        context = lib.llama_init_from_model(model, params)
        if not context:
            raise LoadError("no memory to compute embeddings")
        return int(ctypes.cast(context, ctypes.c_void_p).value or 0)
