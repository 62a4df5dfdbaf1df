"""What an installed file says of itself; read once, since a file never changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from models_admin import gguf, memory
from models_admin.models import ModelVersion

Ability = Literal["completion", "tools", "thinking", "insert", "embedding"]

_KEPT = 128
_MIDDLE = ("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id")
_THINKING = ("<think>", "enable_thinking", "reasoning_content", "<|channel|>")


@dataclass(frozen=True)
class Facts:
    """``template`` is the chat template of the file, empty where it has none; ``parameters``
    counts the weights' elements."""

    header: gguf.Header
    template: str
    parameters: int
    abilities: tuple[Ability, ...]

    @property
    def parameter_size(self) -> str:
        """As `134.5M` or `7.6B`."""
        for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
            if self.parameters >= size:
                return f"{self.parameters / size:.1f}{letter}"
        return str(self.parameters)


def of(version: ModelVersion) -> Facts | None:
    """None when the file is gone or damaged."""
    try:
        return _read(version.path, version.size)
    except (OSError, gguf.BadGGUF):
        return None


@lru_cache(_KEPT)
def _read(path: Path, size: int) -> Facts:
    with path.open("rb") as file:
        header = gguf.read_header(file, size)
        file.seek(0)
        template = gguf.chat_template(file, size)
    counted = sum(math.prod(tensor.shape) for tensor in header.tensors)
    return Facts(header, template, counted, _abilities(header, template))


def _abilities(header: gguf.Header, template: str) -> tuple[Ability, ...]:
    if memory.shape_of(header).vectors:
        return ("embedding",)
    found: list[Ability] = ["completion"]
    if "tools" in template:
        found.append("tools")
    if any(key in header.values for key in _MIDDLE):
        found.append("insert")
    if any(mark in template for mark in _THINKING):
        found.append("thinking")
    return tuple(found)
