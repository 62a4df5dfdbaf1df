"""llama.cpp through the low-level API of llama-cpp-python.

This module and its two parts, `llama_vocabulary.py` and `llama_sampler.py`, are the only ones
that import `llama_cpp`.

Each slot has a KV stream of its own (``kv_unified=False``): idle slots then cost running ones
nothing, and the context is split evenly, so ``n_ctx`` is the slots' sum.
"""

from __future__ import annotations

import ctypes
import logging
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

import llama_cpp
import numpy as np

from chatsite.engine.backend import Chunk, Decoded, Facts, LoadError
from chatsite.engine.llama_embedder import LlamaEmbedder
from chatsite.engine.llama_grammar import schema_to_gbnf
from chatsite.engine.llama_sampler import LlamaSampler
from chatsite.engine.llama_vocabulary import LlamaVocabulary
from chatsite.engine.messages import Load, SamplingParams

log = logging.getLogger(__name__)
lib: Any = llama_cpp.llama_cpp

_WARN, _ERROR, _CONTINUED = 3, 4, 5  # ggml.h; the comments of llama_cpp have other numbers
_LEVELS: Final = {_WARN: logging.WARNING, _ERROR: logging.ERROR}
_CODES: Final = {
    0: Decoded.OK,
    1: Decoded.NO_SPACE,
    2: Decoded.ABORTED,
    -1: Decoded.INVALID,
}
_MIN_ROWS = 512


class _Log:
    """llama.cpp's log lines from warnings up, to ours; the last error explains a failed load."""

    def __init__(self) -> None:
        self.last_error = ""
        self._level = 0
        # Kept here: ctypes does not, and llama.cpp calls it until the process ends.
        self._callback = lib.llama_log_callback(self._take)
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, data: object) -> None:
        if level != _CONTINUED:
            self._level = level
        if self._level in _LEVELS and (line := text.decode("utf-8", "replace").strip()):
            if self._level == _ERROR:
                self.last_error = line
            log.log(_LEVELS[self._level], "llama.cpp: %s", line)


class LlamaMemory:
    def __init__(self, context: int, window: int) -> None:
        self._context = context
        self._memory = lib.llama_get_memory(context)
        self._window = window

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
        self._log = _Log()
        lib.llama_backend_init()
        self._model = self._load_model(load, on_progress)
        self._context = self._make_context(load)
        self.vocabulary = LlamaVocabulary(self._model)
        self.memory = LlamaMemory(self._context, int(lib.llama_model_n_swa(self._model)))
        template: bytes | None = lib.llama_model_chat_template(self._model, None)
        self.template = template.decode("utf-8", "replace") if template else None
        self.facts = Facts(
            context=int(lib.llama_n_ctx_seq(self._context)),
            slots=int(lib.llama_n_seq_max(self._context)),
            max_rows=int(lib.llama_n_batch(self._context)),
            can_cut=not (
                lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
            ),
            architecture=self._metadata(b"general.architecture"),
            parameters=int(lib.llama_model_n_params(self._model)),
            embedding_size=int(lib.llama_model_n_embd_out(self._model)),
            generates=self._generates(),
        )
        self._make_batch(self.facts.max_rows)
        self._tuning = load.tuning
        self._embedder: LlamaEmbedder | None = None  # most models are never asked for vectors

    def decode(self, chunks: Sequence[Chunk]) -> Decoded:
        row = 0
        for chunk in chunks:
            count = len(chunk.tokens)
            end = row + count
            if count == 1:
                self._tokens[row] = chunk.tokens[0]
                self._positions[row] = chunk.start
                self._slots[row] = chunk.slot
                self._outputs[row] = chunk.outputs
            else:
                self._tokens[row:end] = chunk.tokens
                self._positions[row:end] = range(chunk.start, chunk.start + count)
                self._slots[row:end] = (chunk.slot,) * count
                silent = count - chunk.outputs
                self._outputs[row:end] = [*bytes(silent), *[1] * chunk.outputs]
            row = end
        self._batch.n_tokens = row
        return _CODES.get(lib.llama_decode(self._context, self._batch), Decoded.FATAL)

    def embed(self, tokens: Sequence[int]) -> array[float]:
        if self._embedder is None:
            self._embedder = LlamaEmbedder(self._model, self._tuning, self.facts.context)
        return self._embedder.embed(tokens)

    def grammar(self, schema: dict[str, Any]) -> str:
        return schema_to_gbnf(schema)

    def sampler(
        self, params: SamplingParams, prompt: Sequence[int], answer: Sequence[int]
    ) -> LlamaSampler:
        return LlamaSampler(
            self._context,
            params,
            vocabulary=self.vocabulary,
            window=self.facts.context,
            prompt=prompt,
            answer=answer,
        )

    def close(self) -> None:
        """Call once; nothing of this backend may be used afterwards."""
        if self._embedder is not None:
            self._embedder.close()
        lib.llama_free(self._context)
        lib.llama_model_free(self._model)

    def _load_model(self, load: Load, on_progress: Callable[[float], None]) -> int:
        def report(progress: float, data: object) -> bool:
            try:
                on_progress(progress)
            except OSError:
                return False  # nobody listens: stop loading
            return True

        params = lib.llama_model_default_params()
        params.load_mode = lib.LLAMA_LOAD_MODE_MMAP
        params.use_extra_bufts = load.tuning.use_extra_bufts
        params.progress_callback = callback = lib.llama_progress_callback(report)
        model = lib.llama_model_load_from_file(load.path.encode(), params)
        del callback  # lived until here
        if not model:
            raise LoadError(f"llama.cpp can't load the model: {self._log.last_error or 'unknown'}")
        if not lib.llama_model_has_decoder(model):
            raise LoadError("the model has no decoder: it can't write text")
        return int(model)

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

    def _make_batch(self, rows: int) -> None:
        """Arrays that every decode fills again. `llama_batch` points into them."""
        self._tokens = (lib.llama_token * rows)()
        self._positions = (lib.llama_pos * rows)()
        self._slots = (lib.llama_seq_id * rows)()
        self._outputs = (ctypes.c_int8 * rows)()
        self._slot_counts = (ctypes.c_int32 * rows)(*[1] * rows)
        pointer = ctypes.POINTER(lib.llama_seq_id)
        step = ctypes.sizeof(lib.llama_seq_id)
        self._slot_pointers = (pointer * rows)(
            *[ctypes.cast(ctypes.byref(self._slots, row * step), pointer) for row in range(rows)]
        )
        batch = self._batch = lib.llama_batch()
        batch.token = ctypes.cast(self._tokens, ctypes.POINTER(lib.llama_token))
        batch.pos = ctypes.cast(self._positions, ctypes.POINTER(lib.llama_pos))
        batch.n_seq_id = ctypes.cast(self._slot_counts, ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = ctypes.cast(self._slot_pointers, ctypes.POINTER(pointer))
        batch.logits = ctypes.cast(self._outputs, ctypes.POINTER(ctypes.c_int8))

    def _generates(self) -> bool:
        """Models that are there for their vectors say how these are pooled, or that each token
        looks at all the others."""
        architecture = self._metadata(b"general.architecture")
        pooled = self._metadata(f"{architecture}.pooling_type".encode())
        causal = self._metadata(f"{architecture}.attention.causal".encode())
        return pooled in {"unknown", "0"} and causal != "false"

    def _metadata(self, key: bytes) -> str:
        buffer = ctypes.create_string_buffer(256)
        length = lib.llama_model_meta_val_str(self._model, key, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length > 0 else "unknown"
