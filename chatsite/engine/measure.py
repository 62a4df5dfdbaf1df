"""How many tokens texts take, for whoever is about to send them. On the reader thread."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from chatsite.engine.backend import Vocabulary
from chatsite.engine.messages import Measure, Measured
from chatsite.engine.prompt import PromptBuilder

# Counts kept: documents of a conversation are asked for again with each of its messages.
_KEPT: Final = 4096


class Meter:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    def measure(self, prompts: PromptBuilder, request: Measure) -> Measured:
        """Raises `TemplateError` and `BadParameters`."""
        prompt, head = (
            prompts.measure(request.messages, request.options) if request.messages else (0, 0)
        )
        return Measured(request.id, prompt, head, tuple(map(self._count, request.texts)))

    def _count(self, text: str) -> int:
        key = hashlib.sha256(text.encode()).digest()
        if key in self._counts:
            self._counts.move_to_end(key)
            return self._counts[key]
        count = self._counts[key] = len(self._vocabulary.tokenize(text, special=False))
        if len(self._counts) > _KEPT:
            self._counts.popitem(last=False)
        return count
