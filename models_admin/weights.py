"""Where a model's weights are computed, by the names of its tensors."""

from __future__ import annotations

import math
import re
from typing import Final

from models_admin.gguf import Header, Tensor

_MAX_LAYERS: Final = 1024
_BLOCK: Final = re.compile(r"blk\.(\d{1,4})\.")


# Bytes per number of Q8_0, which faster copies of files have; see `engine/requantized.py`.
_COPY_BYTES: Final = 34 / 32


class Weights:
    """Bytes of the tensors by where they are computed, in the file or, ``copied``, at most in a
    copy of it. A model without an output of its own uses its vocabulary's vectors, which are then
    copied to where the output is."""

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
    """Vectors are copied as they are."""
    if len(tensor.shape) < 2:
        return tensor
    return tensor._replace(bytes=max(tensor.bytes, round(math.prod(tensor.shape) * _COPY_BYTES)))
