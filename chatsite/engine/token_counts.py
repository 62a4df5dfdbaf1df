"""Counts the tokens of prompts and texts. Thread-safe."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from chatsite.engine.contract.backend import BadParameters, Vocabulary
from chatsite.engine.contract.messages import CountTokens, TokenCounts
from chatsite.engine.prompting.prompt import PromptBuilder, tokens_of

# Cached counts: the documents of a conversation are counted again with each message.
_KEPT: Final = 4096
# Most tokens returned by one request: the host decodes their frame between those of running
# answers.
NAMED_MAX: Final = 1_000_000


class Meter:
    """Counts tokens, with a cache of the counts of recent texts."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def measure(self, prompts: PromptBuilder | None, request: CountTokens) -> TokenCounts:
        """Count the tokens of a prompt and of texts. Raise `TemplateError` or `BadParameters`.

        ``prompts`` None: the model writes no text, and only raw text can be counted.
        """
        tokens, head = self._prompt(prompts, request)
        if (request.ids or request.pieces) and len(tokens) > NAMED_MAX:
            raise BadParameters(
                f"the text has {len(tokens)} tokens, and at most {NAMED_MAX} are returned per "
                "request: split it"
            )
        return TokenCounts(
            request.id,
            len(tokens),
            head,
            tuple(map(self._count, request.texts)),
            tuple(tokens) if request.ids else (),
            tuple(map(self._vocabulary.piece, tokens)) if request.pieces else (),
        )

    def _prompt(self, prompts: PromptBuilder | None, request: CountTokens) -> tuple[list[int], int]:
        raw = request.options.raw
        if raw is not None:
            tokens = tokens_of(self._vocabulary, raw, special=request.special)
            return self._vocabulary.enclosed(tokens) if request.enclosed else tokens, 0
        if not request.messages:
            return [], 0
        if prompts is None:
            raise BadParameters("this model has no chat template: send raw text")
        return prompts.measure(request.messages, request.options)

    def _count(self, text: str) -> int:
        key = hashlib.sha256(text.encode()).digest()
        with self._lock:
            if key in self._counts:
                self._counts.move_to_end(key)
                return self._counts[key]
        count = len(self._vocabulary.tokenize(text, special=False))
        with self._lock:
            self._counts[key] = count
            if len(self._counts) > _KEPT:
                self._counts.popitem(last=False)
        return count
