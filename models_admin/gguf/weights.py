"""The weights of a model by the layer that uses them, derived from tensor names."""

from __future__ import annotations

import math
import re
from typing import Final

from models_admin.gguf.header import Header, Tensor

_MAX_LAYERS: Final = 1024
_BLOCK: Final = re.compile(r"blk\.(\d{1,4})\.")


# Bytes per element of Q8_0, the type of faster copies; see `engine/tuning/requantized.py`.
_COPY_BYTES: Final = 34 / 32


class Weights:
    """Bytes of the tensors by layer, in the file or, if ``copied``, the maximum in a copy of it.

    A model without an output tensor uses its token embeddings, which are then copied to the device
    of the output (``tied``).
    """

    def __init__(self, header: Header, *, copied: bool = False) -> None:
        self.all, self.output, vocabulary = 0, 0, 0
        self.blocks: list[int] = []
        has_output = False
        for tensor in map(_copy_of, header.tensors) if copied else header.tensors:
            self.all += tensor.bytes
            if (match := _BLOCK.match(tensor.name)) and int(match[1]) < _MAX_LAYERS:
                number = int(match[1])
                self.blocks += [0] * (number + 1 - len(self.blocks))
                self.blocks[number] += tensor.bytes
            elif tensor.name.startswith("output"):
                self.output += tensor.bytes
                has_output = has_output or tensor.name == "output.weight"
            elif tensor.name == "token_embd.weight":
                vocabulary = tensor.bytes
        self.tied = 0 if has_output else vocabulary


def _copy_of(tensor: Tensor) -> Tensor:
    """Return the tensor as it is in a copy. One-dimensional tensors are copied unchanged."""
    if len(tensor.shape) < 2:
        return tensor
    return tensor._replace(bytes=max(tensor.bytes, round(math.prod(tensor.shape) * _COPY_BYTES)))
