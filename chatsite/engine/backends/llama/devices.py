"""This machine's devices that llama.cpp was built for, and the layers on them.

llama-cpp-python binds llama.h only, so the few functions of ggml's device list are declared here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp
from llama_cpp._ggml import libggml

from chatsite.engine.contract.backend import LoadError
from chatsite.engine.contract.devices import Device, Hardware
from chatsite.engine.contract.offload import Offload

# Private names used here, and why; see `chatsite.supported`.
PRIVATE_NAMES: Final = {
    "llama_cpp._ggml.libggml": "The library of ggml: the package binds none of its device list.",
}

lib: Any = llama_cpp.llama_cpp

# ggml-backend.h, `enum ggml_backend_dev_type`.
_GPU, _INTEGRATED = 1, 2
# Backends whose devices use the main memory, though ggml reports them as discrete.
_UNIFIED: Final = frozenset({"MTL", "Metal"})


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(libggml, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


_size, _pointer, _text = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p
_sizes = ctypes.POINTER(ctypes.c_size_t)
_count = _function("ggml_backend_dev_count", _size)
_get = _function("ggml_backend_dev_get", _pointer, _size)
_name = _function("ggml_backend_dev_name", _text, _pointer)
_description = _function("ggml_backend_dev_description", _text, _pointer)
_memory = _function("ggml_backend_dev_memory", None, _pointer, _sizes, _sizes)
_type = _function("ggml_backend_dev_type", ctypes.c_int, _pointer)
_registry = _function("ggml_backend_dev_backend_reg", _pointer, _pointer)
_registry_name = _function("ggml_backend_reg_name", _text, _pointer)


def hardware() -> Hardware:
    """Return the devices of this build. Querying a device's memory may take a moment."""
    lib.llama_backend_init()
    found = [_device(pointer) for pointer in _devices()]
    # As in llama.cpp: an integrated GPU beside a discrete one is not used.
    whole = [device for device in found if not device.integrated]
    system: bytes = lib.llama_print_system_info()
    return Hardware(tuple(whole or found), system.decode("utf-8", "replace").strip(" |"))


class Placed:
    """``offload`` as fields of llama.cpp's model parameters, which point into this object.

    Keep it until the model is loaded. Raises `LoadError` if a device is missing.
    """

    def __init__(self, offload: Offload) -> None:
        by_name = {_text_of(_name(pointer)): pointer for pointer in _devices()}
        if missing := [name for name in offload.devices if name not in by_name]:
            raise LoadError(f"the device {missing[0]} was not found")
        pointers = [by_name[name] for name in offload.devices]
        # An empty list keeps llama.cpp from using all devices.
        self._devices = (_pointer * (len(pointers) + 1))(*pointers, None)
        # llama.cpp assigns each device its share of all offloaded layers, in this order.
        self._split = (ctypes.c_float * max(lib.llama_max_devices(), 1))(*offload.layers)
        self._layers = sum(offload.layers)

    def set(self, params: Any) -> None:
        params.devices = ctypes.cast(self._devices, _pointer)
        params.n_gpu_layers = self._layers
        params.split_mode = lib.LLAMA_SPLIT_MODE_LAYER
        params.tensor_split = ctypes.cast(self._split, ctypes.POINTER(ctypes.c_float))


def _devices() -> Sequence[int]:
    """Return the GPUs: neither CPUs nor accelerators without layers (BLAS, AMX)."""
    pointers = [_get(number) for number in range(_count())]
    return [pointer for pointer in pointers if _type(pointer) in {_GPU, _INTEGRATED}]


def _device(pointer: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _memory(pointer, ctypes.byref(free), ctypes.byref(total))
    backend = _text_of(_registry_name(_registry(pointer)))
    integrated = _type(pointer) == _INTEGRATED
    return Device(
        name=_text_of(_name(pointer)),
        backend=backend,
        description=_text_of(_description(pointer)),
        free=min(free.value, total.value),
        total=total.value,
        integrated=integrated,
        shared=integrated or backend in _UNIFIED,
    )


def _text_of(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")
