"""Texts of an `Embed` request to tokens, on the reader thread."""

from __future__ import annotations

from typing import Final

from chatsite.engine.backend import BadParameters, Embedder, Vocabulary
from chatsite.engine.embedding import EmbedJob
from chatsite.engine.frames import MAX_FRAME
from chatsite.engine.messages import Embed
from chatsite.engine.prompt import ContextExceeded

_OF_FRAME: Final = 4096  # bytes for all but the vectors
_NUMBER: Final = 4  # bytes of a float32


class EmbedBuilder:
    def __init__(self, vocabulary: Vocabulary, embedder: Embedder) -> None:
        self._vocabulary = vocabulary
        self._limit = embedder.limit
        self._most = (MAX_FRAME - _OF_FRAME) // (_NUMBER * embedder.size)

    def prepare(self, request: Embed, arrived: float) -> EmbedJob:
        """Raises `BadParameters`, and `ContextExceeded` for an input that is too long and may
        not be cut."""
        if len(request.inputs) > self._most:
            raise BadParameters(
                f"{len(request.inputs)} inputs are too many: this model takes {self._most} at once"
            )
        inputs = [
            self._tokens(number, one, request.truncate)
            for number, one in enumerate(request.inputs, 1)
        ]
        return EmbedJob(request.id, inputs, arrived)

    def _tokens(self, number: int, one: str | tuple[int, ...], truncate: bool) -> list[int]:
        """Text between the tokens that the model expects around one; tokens as they are sent."""
        vocabulary = self._vocabulary
        if isinstance(one, str):
            inner = vocabulary.tokenize(one, special=False)
            tokens = vocabulary.enclosed(inner)
            if truncate and len(tokens) > self._limit:
                around = len(tokens) - len(inner)
                tokens = vocabulary.enclosed(inner[: max(0, self._limit - around)])
        else:
            if beyond := [token for token in one if not 0 <= token < vocabulary.size]:
                raise BadParameters(
                    f"input {number} has token {beyond[0]}, but the model's tokens end at "
                    f"{vocabulary.size - 1}"
                )
            tokens = list(one[: self._limit] if truncate else one)
        if not tokens:
            raise BadParameters(f"input {number} is empty: there is nothing to make a vector of")
        if len(tokens) > self._limit:
            raise ContextExceeded(len(tokens), self._limit, f"input {number}")
        return tokens
