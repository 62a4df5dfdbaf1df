"""A llama.cpp model: loading, metadata, and the library's log."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from typing import Any, Final

import llama_cpp

from chatsite.engine.backends.llama.devices import Placed
from chatsite.engine.contract.backend import LoadError
from chatsite.engine.contract.messages import Load

log = logging.getLogger(__name__)
lib: Any = llama_cpp.llama_cpp

_WARN, _ERROR, _CONTINUED = 3, 4, 5  # ggml.h; the comments in llama_cpp have other numbers
_LEVELS: Final = {_WARN: logging.WARNING, _ERROR: logging.ERROR}


class LlamaLog:
    """Forwards llama.cpp's log from warnings up; the last error explains a failed load."""

    def __init__(self) -> None:
        self.last_error = ""
        self._level = 0
        # Keeps the callback alive: ctypes does not, and llama.cpp calls it until the process ends.
        self._callback = lib.llama_log_callback(self._take)
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, data: object) -> None:
        if level != _CONTINUED:
            self._level = level
        if self._level in _LEVELS and (line := text.decode("utf-8", "replace").strip()):
            # This line follows the one that gives the reason.
            if self._level == _ERROR and "failed to load model" not in line:
                self.last_error = line
            log.log(_LEVELS[self._level], "llama.cpp", extra={"text": line})


def load_model(load: Load, on_progress: Callable[[float], None], said: LlamaLog) -> int:
    """Load the model and return its pointer. Raise `LoadError`."""

    def report(progress: float, data: object) -> bool:
        try:
            on_progress(progress)
        except OSError:
            return False  # the host is gone: stop loading
        return True

    params = lib.llama_model_default_params()
    placed = Placed(load.offload)
    placed.set(params)
    # Mapped weights share the page cache. Repacked ones are copies: with a mapping they would be in
    # memory twice.
    extra = params.use_extra_bufts = load.tuning.use_extra_bufts
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE if extra else lib.LLAMA_LOAD_MODE_MMAP
    params.progress_callback = callback = lib.llama_progress_callback(report)
    model = lib.llama_model_load_from_file(load.path.encode(), params)
    del callback, placed  # must live until here
    if not model:
        reason = said.last_error.partition("error loading model: ")[2] or said.last_error
        raise LoadError(f"llama.cpp can't load the model: {reason or 'unknown'}")
    if lib.llama_model_has_encoder(model) and lib.llama_model_has_decoder(model):
        raise LoadError("models with both an encoder and a decoder (T5) are not supported")
    return int(model)


def metadata(model: int, key: str) -> str:
    """Return a field of the GGUF header as text; empty if missing."""
    buffer = ctypes.create_string_buffer(256)
    length = lib.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length > 0 else ""
