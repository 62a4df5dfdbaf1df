"""llama.cpp through the low-level API of llama-cpp-python.

This module and its parts, the other `llama_*.py`, are the only ones that import `llama_cpp`.

Each slot has a KV stream of its own (``kv_unified=False``): idle slots then cost running ones
nothing, and the context is split evenly, so ``n_ctx`` is the slots' sum.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

import llama_cpp
import numpy as np

from chatsite.engine.backend import Chunk, Decoded, Facts, LoadError
from chatsite.engine.llama_batch import LlamaBatch
from chatsite.engine.llama_embedder import LlamaEmbedder
from chatsite.engine.llama_model import LlamaLog, load_model, metadata
from chatsite.engine.llama_sampler import LlamaSampler
from chatsite.engine.llama_vocabulary import LlamaVocabulary
from chatsite.engine.messages import Load, SamplingParams
from chatsite.engine.schema_grammar import to_gbnf
from chatsite.engine.token_grammar import TokenTexts, automaton_of

lib: Any = llama_cpp.llama_cpp

_CODES: Final = {
    0: Decoded.OK,
    1: Decoded.NO_SPACE,
    2: Decoded.ABORTED,
    -1: Decoded.INVALID,
}
_MIN_ROWS = 512


class LlamaMemory:
    def __init__(self, context: int, window: int) -> None:
        self._context = context
        self._memory = lib.llama_get_memory(context)
        self._window = window

    @property
    def saves_ends(self) -> bool:
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
        # A sliding window that forgot what the next token must see is of no use.
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
    """Raises `LoadError` when the model can't be loaded or the context does not fit memory."""

    def __init__(self, load: Load, on_progress: Callable[[float], None]) -> None:
        self._log = LlamaLog()
        lib.llama_backend_init()
        self._model = load_model(load, on_progress, self._log)
        self.vocabulary = LlamaVocabulary(self._model)
        self._texts = TokenTexts(self.vocabulary)
        self.embedder = LlamaEmbedder(self._model, load, self.vocabulary.size)
        generates = not self.embedder.alone
        self._context = self._make_context(load) if generates else self.embedder.open()
        self.memory = LlamaMemory(self._context, int(lib.llama_model_n_swa(self._model)))
        if generates and not self.memory.exists:
            raise LoadError("the model writes no text from left to right, and gives no vectors")
        template: bytes | None = lib.llama_model_chat_template(self._model, None)
        self.template = template.decode("utf-8", "replace") if template else None
        self.facts = Facts(
            context=int(lib.llama_n_ctx_seq(self._context)) if generates else self.embedder.limit,
            slots=load.slots,
            max_rows=int(lib.llama_n_batch(self._context)),
            can_cut=not (
                lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
            ),
            architecture=metadata(self._model, "general.architecture") or "unknown",
            parameters=int(lib.llama_model_n_params(self._model)),
            generates=generates,
        )
        self._batch = LlamaBatch(self.facts.max_rows)

    def decode(self, chunks: Sequence[Chunk]) -> Decoded:
        return _CODES.get(self._batch.decode(self._context, chunks), Decoded.FATAL)

    def check(self, params: SamplingParams) -> None:
        if automaton_of(params):
            self._texts.prepare()

    def grammar(self, schema: dict[str, Any]) -> str:
        return to_gbnf(schema)

    def sampler(
        self, params: SamplingParams, prompt: Sequence[int], answer: Sequence[int]
    ) -> LlamaSampler:
        return LlamaSampler(
            self._context,
            params,
            vocabulary=self.vocabulary,
            texts=self._texts,
            window=self.facts.context,
            prompt=prompt,
            answer=answer,
        )

    def close(self) -> None:
        """Call once; nothing of this backend may be used afterwards."""
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
        # A window kept whole can be cut anywhere, which reuse of prefixes needs.
        params.swa_full = True
        params.no_perf = True
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise LoadError(
                f"no memory for a context of {params.n_ctx} tokens: {self._log.last_error}"
            )
        return int(context)
