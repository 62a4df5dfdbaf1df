"""The llama.cpp backend, on the low-level API of llama-cpp-python.

The modules of this package are the only ones that import `llama_cpp`.

Each slot has its own KV stream (``kv_unified=False``): idle slots then cost running ones nothing,
and the context is split evenly, so ``n_ctx`` is the slots' sum.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import llama_cpp
import numpy as np

from chatsite.engine.backends.llama.batch import LlamaBatch
from chatsite.engine.backends.llama.embedder import LlamaEmbedder
from chatsite.engine.backends.llama.model import LlamaLog, load_model, metadata
from chatsite.engine.backends.llama.sampler import LlamaSampler
from chatsite.engine.backends.llama.vocabulary import LlamaVocabulary
from chatsite.engine.contract.backend import (
    BackendInfo,
    BadParameters,
    Chunk,
    Constraint,
    Decoded,
    LoadError,
)
from chatsite.engine.contract.messages import Load, SamplingParams
from chatsite.engine.grammar.automaton import Automaton
from chatsite.engine.grammar.schema import to_gbnf
from chatsite.engine.grammar.token_grammar import TokenGrammar, TokenTexts, WorkBudget, automaton_of

lib: Any = llama_cpp.llama_cpp

_CODES: Final = {
    0: Decoded.OK,
    1: Decoded.NO_SPACE,
    2: Decoded.ABORTED,
    -1: Decoded.INVALID,
}
_MIN_ROWS = 512


class LlamaKVCache:
    """The `KVCache` of a llama.cpp context. ``window`` is the sliding window in tokens, or 0."""

    def __init__(self, context: int, window: int) -> None:
        self._context = context
        self._memory = lib.llama_get_memory(context)
        self._window = window

    @property
    def restores_only_at_end(self) -> bool:
        return self._window > 0

    @property
    def exists(self) -> bool:
        return bool(self._memory)

    def length(self, slot: int) -> int:
        return int(lib.llama_memory_seq_pos_max(self._memory, slot)) + 1

    def clear(self, slot: int) -> None:
        lib.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def truncate(self, slot: int, length: int) -> bool:
        if not lib.llama_memory_seq_rm(self._memory, slot, length, -1):
            return False
        # A sliding window without the positions that the next token sees is useless.
        oldest = lib.llama_memory_seq_pos_min(self._memory, slot)
        return bool(oldest <= max(0, length - self._window)) if self._window else True

    def copy(self, source: int, target: int) -> None:
        lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def size(self, slot: int) -> int:
        return int(lib.llama_state_seq_get_size(self._context, slot))

    def save(self, slot: int) -> memoryview | None:
        data = np.empty(self.size(slot), dtype=np.uint8)
        written = lib.llama_state_seq_get_data(self._context, _bytes_of(data), data.size, slot)
        return memoryview(data.data) if written == data.size else None

    def restore(self, slot: int, data: memoryview) -> bool:
        array = np.frombuffer(data, dtype=np.uint8)
        read = lib.llama_state_seq_set_data(self._context, _bytes_of(array), array.size, slot)
        return bool(read == array.size)


def _bytes_of(array: np.ndarray) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class LlamaBackend:
    """A loaded model.

    Raises `LoadError` if the model can't be loaded or the context does not fit the memory.
    """

    def __init__(self, load: Load, on_progress: Callable[[float], None]) -> None:
        self._log = LlamaLog()
        lib.llama_backend_init()
        self._model = load_model(load, on_progress, self._log)
        self.vocabulary = LlamaVocabulary(self._model)
        self._texts = TokenTexts(self.vocabulary)
        self._budget = WorkBudget()
        self.embedder = LlamaEmbedder(self._model, load, self.vocabulary.size)
        generates = not self.embedder.alone
        self._context = self._make_context(load) if generates else self.embedder.open()
        self.memory = LlamaKVCache(self._context, int(lib.llama_model_n_swa(self._model)))
        if generates and not self.memory.exists:
            raise LoadError("the model neither generates text nor computes embeddings")
        template: bytes | None = lib.llama_model_chat_template(self._model, None)
        self.template = template.decode("utf-8", "replace") if template else None
        self.facts = BackendInfo(
            context=int(lib.llama_n_ctx_seq(self._context)) if generates else self.embedder.limit,
            slots=load.slots,
            max_rows=int(lib.llama_n_batch(self._context)),
            supports_truncation=not (
                lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
            ),
            architecture=metadata(self._model, "general.architecture") or "unknown",
            parameters=int(lib.llama_model_n_params(self._model)),
            generates=generates,
        )
        self._batch = LlamaBatch(self.facts.max_rows)

    def decode(self, chunks: Sequence[Chunk]) -> Decoded:
        return _CODES.get(self._batch.decode(self._context, chunks), Decoded.FATAL)

    def begin_step(self) -> None:
        self._budget.begin_step()

    def check(self, params: SamplingParams) -> Automaton | None:
        automaton = automaton_of(params)
        if automaton is not None:
            self._texts.prepare()
        return automaton

    def grammar(self, schema: Any, also: Mapping[str, Any] | None = None) -> str:
        return to_gbnf(schema, also)

    def sampler(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        answer: Sequence[int],
        *,
        owner: str = "",
        automaton: Constraint | None = None,
    ) -> LlamaSampler:
        compiled = automaton if isinstance(automaton, Automaton) else automaton_of(params)
        grammar = None
        if compiled is not None:
            grammar = TokenGrammar(
                compiled, self.vocabulary, self._texts, answer, self._budget, owner
            )
        try:
            return LlamaSampler(
                self._context,
                params,
                vocabulary=self.vocabulary,
                grammar=grammar,
                window=self.facts.context,
                prompt=prompt,
                answer=answer,
            )
        except BadParameters:
            if grammar is not None:
                grammar.close()
            raise

    def close(self) -> None:
        """Free the model. Call once; the backend is unusable afterwards."""
        self.embedder.close()
        if self.facts.generates:
            lib.llama_free(self._context)
        lib.llama_model_free(self._model)

    def _make_context(self, load: Load) -> int:
        trained = int(lib.llama_model_n_ctx_train(self._model))
        params = lib.llama_context_default_params()
        params.n_ctx = (min(load.context, trained) if trained > 0 else load.context) * load.slots
        params.n_seq_max = load.slots
        params.n_ubatch = load.tuning.ubatch
        params.n_batch = max(_MIN_ROWS, load.tuning.ubatch, 2 * load.slots)
        params.n_threads = params.n_threads_batch = load.tuning.threads
        params.flash_attn_type = (
            lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if load.tuning.flash_attention
            else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.kv_unified = False
        # A full window can be truncated anywhere, which prefix reuse requires.
        params.swa_full = True
        params.no_perf = True
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise LoadError(
                f"not enough memory for a context of {params.n_ctx} tokens: {self._log.last_error}"
            )
        return int(context)
