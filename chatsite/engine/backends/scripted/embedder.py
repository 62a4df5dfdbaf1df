"""Vectors of the scripted backend; described in `backend.py`."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

from chatsite.engine.contract.backend import ComputeError, InputChunk, Vocabulary


class ScriptedEmbedder:
    """A vector counts the words of a text, each in one component.

    With ``ranks`` the only component is the number of words that both lines of a text have.
    """

    rows = 512
    sequences = 16
    splits = True

    def __init__(self, vocabulary: Vocabulary, limit: int, *, ranks: bool = False) -> None:
        self.ranks = ranks
        self.size = 1 if ranks else 64
        self.limit = limit
        self._vocabulary = vocabulary
        self._texts: dict[int, list[int]] = {}

    def open(self) -> None:
        pass

    def compute(self, pieces: Sequence[InputChunk]) -> list[bytes]:
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
        if self.ranks:
            text = b"".join(map(self._vocabulary.piece, tokens)).lower()
            query, _, document = (set(line.split()) for line in text.partition(b"\n"))
            return struct.pack("<f", len(query & document))
        counts = [0.0] * self.size
        for token in tokens:
            word = self._vocabulary.piece(token).strip().lower()
            counts[zlib.crc32(word) % self.size] += 1
        length = math.sqrt(sum(count * count for count in counts))
        return struct.pack(f"<{self.size}f", *(count / length for count in counts))
