"""The arrays that llama.cpp reads its tokens from, reused for every call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp

from chatsite.engine.contract.backend import Chunk

lib: Any = llama_cpp.llama_cpp


class LlamaBatch:
    """A batch of up to ``rows`` tokens. `llama_batch` points into this object's arrays."""

    def __init__(self, rows: int) -> None:
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

    def decode(self, context: int, chunks: Sequence[Chunk], *, encode: bool = False) -> int:
        """Compute chunks and return llama.cpp's return code. ``encode`` is for encoder models."""
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
        compute = lib.llama_encode if encode else lib.llama_decode
        return int(compute(context, self._batch))
