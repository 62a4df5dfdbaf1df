"""Grammars that an answer keeps to, token by token.

The chain draws first and its token is checked; only if it can't stand here are other tokens
asked, the likeliest first, and the whole vocabulary if none of those can. Nothing a grammar
says can hang the engine or end it: each token has a budget of work, and where that runs out, or
nothing can follow, the answer ends.
"""

from __future__ import annotations

import bisect
import codecs
import functools
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from chatsite.engine.automaton import Automaton, State, TooAmbiguous
from chatsite.engine.backend import BadParameters, Vocabulary
from chatsite.engine.gbnf import parse
from chatsite.engine.messages import SamplingParams
from chatsite.engine.schema_grammar import to_gbnf

Logits = NDArray[np.float32]

_FIRST_TRIED: Final = 256
_TOKEN_WORK: Final = 300_000  # stacks looked at; about 0.3 s
_KEPT: Final = 16
_LAST_CHARACTER: Final = 0x10FFFF


@functools.lru_cache(maxsize=_KEPT)
def compiled(text: str) -> Automaton:
    """Answers of one schema share what was found out about it. Raises `BadParameters`."""
    try:
        return Automaton(parse(text))
    except TooAmbiguous:
        raise BadParameters("the grammar is too large or ambiguous to be followed") from None


@functools.lru_cache(maxsize=_KEPT)
def _of_schema(encoded: bytes) -> str:
    return to_gbnf(msgspec.json.decode(encoded))


def automaton_of(params: SamplingParams) -> Automaton | None:
    """None when the answer is free. Raises `BadParameters`."""
    if params.json_schema is not None:
        return compiled(_of_schema(msgspec.json.encode(params.json_schema)))
    return compiled(params.grammar) if params.grammar else None


class TokenTexts:
    """Texts of a vocabulary's tokens, and all of them in order, for looking at a whole
    vocabulary: tokens that begin alike are next to each other."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._texts: dict[int, str | None] = {}

    def text(self, token: int) -> str | None:
        """None for a piece of a character, and for a token without text."""
        if token not in self._texts:
            try:
                self._texts[token] = self._vocabulary.piece(token).decode() or None
            except UnicodeDecodeError:
                self._texts[token] = None
        return self._texts[token]

    def prepare(self) -> None:
        """Puts them in order, once: up to a second for the largest vocabularies."""
        _ = self.ordered

    @functools.cached_property
    def ordered(self) -> tuple[list[str], list[int], list[int]]:
        """Texts in order, their tokens, and tokens that are pieces of characters."""
        pairs, pieces = [], []
        for token in range(self._vocabulary.size):
            if (text := self.text(token)) is not None:
                pairs.append((text, token))
            elif self._vocabulary.piece(token):
                pieces.append(token)
        pairs.sort()
        return [text for text, _ in pairs], [token for _, token in pairs], pieces


class TokenGrammar:
    """Where one answer stands in its grammar. Raises `BadParameters` if ``answer``, of an
    earlier attempt, did not keep to it."""

    def __init__(
        self,
        automaton: Automaton,
        vocabulary: Vocabulary,
        texts: TokenTexts,
        answer: Sequence[int],
    ) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._texts = texts
        self._state: State | None = automaton.start
        self._pending = b""  # the first bytes of a character
        self._budget = automaton.work + _TOKEN_WORK
        for token in answer:
            if not self.accept(token):
                raise BadParameters("the text so far does not keep to the grammar")

    def takes(self, token: int) -> bool:
        return self._behind(token) is not None

    def accept(self, token: int) -> bool:
        """Goes on behind ``token``; False if it can't stand here, and nothing can any more."""
        found = self._behind(token)
        if found is None:
            self._state = None
            return False
        self._state, self._pending = found
        self._budget = self._automaton.work + _TOKEN_WORK
        return True

    def masked(self, logits: Logits) -> Logits:
        """The logits with all that can't stand here at minus infinity."""
        masked = np.full_like(logits, -np.inf)
        count = min(_FIRST_TRIED, len(logits))
        likely = np.argpartition(logits, len(logits) - count)[-count:]
        allowed = [int(token) for token in likely if self.takes(int(token))]
        if not np.isfinite(logits[allowed]).any():
            allowed = self._allowed()
        if np.isfinite(logits[allowed]).any():
            masked[allowed] = logits[allowed]
        else:
            # Only what was barred is left: an end, if the grammar takes one, even so.
            masked[min(self._vocabulary.ends, default=0)] = 0
        return masked

    def _behind(self, token: int) -> tuple[State, bytes] | None:
        if self._state is None:
            return None
        if token in self._vocabulary.ends:
            may_end = self._state.may_end and not self._pending
            return (self._state, b"") if may_end else None
        text = None if self._pending else self._texts.text(token)
        if text is not None:
            state = self._walk(self._state, text)
            return None if state is None else (state, b"")
        return self._behind_bytes(self._vocabulary.piece(token))

    def _behind_bytes(self, piece: bytes) -> tuple[State, bytes] | None:
        if not piece or self._state is None:
            return None
        data = self._pending + piece
        try:
            text, used = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return None
        state, rest = self._walk(self._state, text), data[used:]
        if state is None or (rest and not self._automaton.takes_range(state, *_range(rest))):
            return None
        return state, rest

    def _walk(self, state: State, text: str) -> State | None:
        if self._automaton.work > self._budget:
            return None
        try:
            return self._automaton.walk(state, text)
        except TooAmbiguous:
            return None

    def _allowed(self) -> list[int]:
        """All tokens of the vocabulary that can stand here."""
        texts, tokens, pieces = self._texts.ordered
        allowed = [token for token in (*pieces, *self._vocabulary.ends) if self.takes(token)]
        if self._pending or self._state is None:
            return allowed  # a character is finished by pieces alone
        path, before, at = [self._state], "", 0  # states behind each character of ``before``
        while at < len(texts):
            text = texts[at]
            common = _common(before, text)
            del path[common + 1 :]
            while len(path) <= len(text):
                state = self._walk(path[-1], text[len(path) - 1])
                if state is None:
                    break
                path.append(state)
            before = text[: len(path) - 1]
            if len(path) > len(text):
                allowed.append(tokens[at])
                at += 1
            else:  # nor does anything else that begins so
                at = bisect.bisect_left(texts, _behind_all(text[: len(path)]), at + 1)
        return allowed


def _range(first: bytes) -> tuple[int, int]:
    """The characters whose UTF-8 begins with these bytes."""
    size = 2 if first[0] < 0xE0 else 3 if first[0] < 0xF0 else 4
    code = first[0] & (0x7F >> size)
    for byte in first[1:]:
        code = code << 6 | byte & 0x3F
    bits = 6 * (size - len(first))
    least = (0, 0, 0x80, 0x800, 0x10000)[size]
    return max(code << bits, least), min((code + 1 << bits) - 1, _LAST_CHARACTER)


def _common(left: str, right: str) -> int:
    size = min(len(left), len(right))
    return next((at for at in range(size) if left[at] != right[at]), size)


def _behind_all(prefix: str) -> str:
    """The least text behind all that begin with ``prefix``."""
    last = ord(prefix[-1])
    return prefix[:-1] + chr(last + 1) if last < _LAST_CHARACTER else prefix + prefix[-1]
