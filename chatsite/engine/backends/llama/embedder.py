"""Embedding vectors from llama.cpp, in a separate context beside that of answers.

Causal models return a vector per token and are pooled here, chunk by chunk, so that a long text
never delays running answers. Models with bidirectional attention (BERT and similar) compute a text
as a whole, and llama.cpp pools.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from chatsite.engine.backends.llama.batch import LlamaBatch
from chatsite.engine.backends.llama.model import metadata
from chatsite.engine.contract.backend import Chunk, ComputeError, InputChunk, LoadError
from chatsite.engine.contract.messages import Load

lib: Any = llama_cpp.llama_cpp

_NONE, _MEAN, _FIRST, _LAST, _RANK = (
    lib.LLAMA_POOLING_TYPE_NONE,
    lib.LLAMA_POOLING_TYPE_MEAN,
    lib.LLAMA_POOLING_TYPE_CLS,
    lib.LLAMA_POOLING_TYPE_LAST,
    lib.LLAMA_POOLING_TYPE_RANK,
)
# Limit of an input in tokens where the model also generates text, to bound memory.
_MOST_BESIDE: Final = 2048
# Limit without flash attention, when the scores of all pairs of tokens are in memory together.
_MOST_WHOLE: Final = 2048
_SEQUENCES: Final = 64
# llama.cpp stores the logits of every row, though they are not used.
_LOGITS_BYTES: Final = 64 << 20
_MIN_ROWS, _MAX_ROWS = 32, 512


class LlamaEmbedder:
    """The `Embedder` of a loaded model.

    ``alone``: the model only computes vectors. The context is created when it is first needed.
    ``ranks``: it is a reranker, whose result is a score. Raises `LoadError` for a reranker with
    several scores, or one that generates its judgement as text.
    """

    def __init__(self, model: int, load: Load, vocabulary: int) -> None:
        architecture = metadata(model, "general.architecture")
        pooling = int(metadata(model, f"{architecture}.pooling_type") or _NONE)
        causal = metadata(model, f"{architecture}.attention.causal") != "false"
        self.ranks = pooling == _RANK
        outputs = int(lib.llama_model_n_cls_out(model))
        if self.ranks and (causal or outputs != 1):
            raise LoadError(
                "this kind of reranker is not supported; use one with an encoder and one score, "
                "such as bge-reranker-v2-m3"
            )
        self._encodes = bool(lib.llama_model_has_encoder(model))
        self._model = model
        self._load = load
        self._pooling = pooling or _MEAN
        self.alone = self._encodes or pooling != _NONE or not causal
        self.splits = causal and not self._encodes
        self.size = 1 if self.ranks else int(lib.llama_model_n_embd_out(model))
        trained = int(lib.llama_model_n_ctx_train(model))
        self.limit = min(load.context, trained) if trained > 0 else load.context
        if self.splits:
            rows = min(_LOGITS_BYTES // (4 * vocabulary), _MAX_ROWS)
            self.rows = max(_MIN_ROWS, rows // _MIN_ROWS * _MIN_ROWS)
            if not self.alone:
                self.limit = min(self.limit, _MOST_BESIDE)
        else:
            if not load.tuning.flash_attention:
                self.limit = min(self.limit, _MOST_WHOLE)
            self.rows = max(_MAX_ROWS, self.limit)
        one_state = lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model)
        self.sequences = 1 if one_state else _SEQUENCES
        self._opening = threading.Lock()
        self._context: int | None = None
        self._memory: Any = None
        self._batch = LlamaBatch(self.rows)
        self._sums: dict[int, NDArray[np.float64]] = {}

    def open(self) -> int:
        """Create the context, which this object owns. Thread-safe. Raise `LoadError`.

        It takes longer than a step may, so the thread that prepares the first request does it.
        """
        with self._opening:
            if self._context is None:
                context = self._make_context()
                self._memory = lib.llama_get_memory(context)
                self._context = context
            return self._context

    def compute(self, pieces: Sequence[InputChunk]) -> list[bytes]:
        try:
            context = self.open()
        except LoadError as error:
            raise ComputeError(str(error)) from error
        chunks = [Chunk(p.sequence, p.start, p.tokens, len(p.tokens)) for p in pieces]
        code = self._batch.decode(context, chunks, encode=self._encodes)
        if code != 0:
            raise ComputeError(f"llama.cpp returned {code}")
        if self.splits:
            vectors = self._pool(context, pieces)
        else:
            vectors = [self._pooled(context, piece.sequence) for piece in pieces]
        for piece in pieces:
            if piece.last and self._memory:
                lib.llama_memory_seq_rm(self._memory, piece.sequence, -1, -1)
        return [_score(vector) if self.ranks else _unit(vector) for vector in vectors]

    def clear(self) -> None:
        self._sums.clear()
        if self._context is not None and self._memory:
            lib.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        if self._context is not None:
            lib.llama_free(self._context)
            self._context = None

    def _pool(self, context: int, pieces: Sequence[InputChunk]) -> list[NDArray[np.float64]]:
        rows = sum(len(piece.tokens) for piece in pieces)
        pointer = lib.llama_get_embeddings(context)
        states = np.ctypeslib.as_array(pointer, shape=(rows, self.size))
        vectors, row = [], 0
        for piece in pieces:
            mine = states[row : row + len(piece.tokens)]
            row += len(piece.tokens)
            before = self._sums.pop(piece.sequence, None)
            if self._pooling == _LAST:
                now = mine[-1].astype(np.float64)
            elif self._pooling == _FIRST:
                now = mine[0].astype(np.float64) if before is None else before
            else:  # a normalized sum equals a normalized mean
                now = mine.sum(axis=0, dtype=np.float64)
                now = now if before is None else now + before
            if piece.last:
                vectors.append(now)
            else:
                self._sums[piece.sequence] = now
        return vectors

    def _pooled(self, context: int, sequence: int) -> NDArray[np.float64]:
        pointer = lib.llama_get_embeddings_seq(context, sequence)
        if not pointer:
            raise ComputeError("llama.cpp returned no vector")
        return np.ctypeslib.as_array(pointer, shape=(self.size,)).astype(np.float64)

    def _make_context(self) -> int:
        tuning = self._load.tuning
        params = lib.llama_context_default_params()
        params.embeddings = True
        params.pooling_type = _NONE if self.splits else self._pooling
        # Room for a partly computed input and a batch of others.
        params.n_ctx = self.limit + self.rows if self.splits else self.rows
        params.n_batch = params.n_ubatch = self.rows
        params.n_seq_max = self.sequences
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = tuning.threads
        params.flash_attn_type = (
            lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if tuning.flash_attention
            else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.no_perf = True
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise LoadError(f"not enough memory for embeddings of {self.limit} tokens")
        return int(context)


def _unit(vector: NDArray[np.float64]) -> bytes:
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise ComputeError("the vector is not finite")
    return (vector / length).astype("<f4").tobytes()


def _score(vector: NDArray[np.float64]) -> bytes:
    if not np.isfinite(vector).all():
        raise ComputeError("the score is not finite")
    return vector.astype("<f4").tobytes()
