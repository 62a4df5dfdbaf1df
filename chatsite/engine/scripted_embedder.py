"""Vectors of the scripted backend: what `scripted_backend.py` says of them."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

from chatsite.engine.backend import ComputeError, Piece, Vocabulary


class ScriptedEmbedder:
    """A vector counts the words of a text, each in one of its numbers."""

    size = 64
    rows = 512
    sequences = 16
    splits = True

    def __init__(self, vocabulary: Vocabulary, limit: int) -> None:
        self.limit = limit
        self._vocabulary = vocabulary
        self._texts: dict[int, list[int]] = {}

    def compute(self, pieces: Sequence[Piece]) -> list[bytes]:
        vectors = []
        for piece in pieces:
            tokens = self._texts.setdefault(piece.sequence, [])
            if piece.start != len(tokens):
                raise AssertionError(f"input {piece.sequence} holds {len(tokens)}")
            tokens += piece.tokens
            if b"@embed-fail" in b"".join(map(self._vocabulary.piece, tokens)):
                raise ComputeError("the text said so")
            if piece.last:
                vectors.append(self._vector(self._texts.pop(piece.sequence)))
        return vectors

    def clear(self) -> None:
        self._texts.clear()

    def _vector(self, tokens: Sequence[int]) -> bytes:
        counts = [0.0] * self.size
        for token in tokens:
            word = self._vocabulary.piece(token).strip().lower()
            counts[zlib.crc32(word) % self.size] += 1
        length = math.sqrt(sum(count * count for count in counts))
        return struct.pack(f"<{self.size}f", *(count / length for count in counts))
