"""Where a model's weights are computed, by the names of its tensors."""

from __future__ import annotations

import re
from typing import Final

from models_admin.gguf import Header

_MAX_LAYERS: Final = 1024
_BLOCK: Final = re.compile(r"blk\.(\d{1,4})\.")


class Weights:
    """Bytes of the tensors by where they are computed. A model without an output of its own
    uses its vocabulary's vectors, which are then copied to where the output is."""

    def __init__(self, header: Header) -> None:
        self.all, self.output, vocabulary = 0, 0, 0
        self.blocks: list[int] = []
        has_output = False
        for tensor in header.tensors:
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
