"""Quantizes a file with llama.cpp to another type of weights."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any, Final

import llama_cpp

from chatsite.engine.contract.backend import LoadError

lib: Any = llama_cpp.llama_cpp

# Bytes of weights in memory at a time.
_BUFFER: Final = 1 << 30
_MIB: Final = 1 << 20
_WARN, _ERROR = 3, 4

# Log lines of each tensor, and of the result.
_TENSOR: Final = re.compile(r"size = +([\d.]+) MiB")
_RESULT: Final = re.compile(r"quant size += +([\d.]+) MiB")


class _Listener:
    """Parses progress, result and errors from llama.cpp's log."""

    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self._on_bytes = on_bytes
        self._done = 0.0
        self.result = 0
        self.error = ""
        # Keeps the callback alive: ctypes does not.
        self._callback = lib.llama_log_callback(self._take)
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, raw: bytes, data: object) -> None:
        text = raw.decode("utf-8", "replace")
        if level == _ERROR and text.strip():
            self.error = text.strip()
        if found := _RESULT.search(text):
            self.result = round(float(found[1]) * _MIB)
        elif "model size" not in text and (found := _TENSOR.search(text)):
            self._done += float(found[1]) * _MIB
            self._on_bytes(round(self._done))


def quantize(
    source: str,
    target: str,
    kind: str,
    threads: int,
    on_bytes: Callable[[int], None],
    *,
    dry: bool = False,
) -> int:
    """Write ``target`` and return the bytes of its weights. Raise `LoadError`.

    With ``dry`` only compute the size. ``kind`` is a name such as `Q4_K_M`. ``on_bytes`` is called
    with the processed bytes of ``source``.
    """
    listener = _Listener(on_bytes)
    lib.llama_backend_init()
    params = lib.llama_model_quantize_default_params()
    params.ftype = getattr(lib, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = threads
    params.allow_requantize = True
    params.max_buf_size = _BUFFER
    params.dry_run = dry
    if lib.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)):
        reason = listener.error.partition("failed to quantize: ")[2] or listener.error
        raise LoadError(f"llama.cpp can't quantize the model: {reason or 'unknown'}")
    return listener.result
