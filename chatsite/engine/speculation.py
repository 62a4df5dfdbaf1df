"""Prompt-lookup speculative decoding: tokens guessed from the text so far, checked in one step.

Where a text repeats what it or its prompt said before (edits, quotes, code, lists), the tokens
that followed the same three tokens last time are a good guess at what comes now. A step that
decodes the guess beside the last token costs a fraction of a step for each; the sampler then
draws from every row in turn for as long as it agrees with the guess, so the answer is exactly
what it would have been without.

Whether that pays is measured: `Acceptance` counts how often a sequence's guesses were right,
`choose` weighs it against what rows cost on this machine, and guesses nothing where it does not.

Pure: no clock, no model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

# Tokens that must have been there before, in a row.
_MATCH: Final = 3
MOST: Final = 16
_MARGIN: Final = 0.25
# Before anything was counted, as many guesses and right ones: three tokens in a row that were
# there before are followed by the same fourth more often than not.
_PRIOR: Final = 2.0
_PRIOR_RIGHT: Final = 1.6
_LENGTHS: Final = (1, 2, 3, 4, 6, 8, 12, MOST)


class Lookup:
    """Where each run of three tokens was seen last, in one sequence that only grows.

    A copy keeps to its source: while the source goes on as the sequence does it is read from
    there, also behind a token that was replaced, and not from where else the same three stand.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], int] = {}
        self._indexed = _MATCH
        self._source = 0  # tokens before this one were followed so far
        self._length = 0  # of the sequence at that time

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to ``most`` tokens that may follow ``tokens``; none when its end is new."""
        for at in range(self._indexed, len(tokens)):
            self._seen[tuple(tokens[at - _MATCH : at])] = at
        self._indexed = max(self._indexed, len(tokens))
        start = self._source + len(tokens) - self._length
        if not self._source or tokens[start - 1] != tokens[-1]:
            found = self._seen.get(tuple(tokens[-_MATCH:]))
            if found is None:
                return []
            start = found
        self._source, self._length = start, len(tokens)
        draft = list(tokens[start : start + most])
        # A text that repeats itself: the guess goes on with its own beginning.
        period = len(tokens) - start
        while len(draft) < most:
            draft.append(draft[len(draft) - period])
        return draft


class Acceptance:
    """How likely the next guessed token of a sequence is right, from those before; what is
    long ago counts less, so that a sequence is tried again now and then."""

    def __init__(self) -> None:
        self._right = self._wrong = 0.0

    @property
    def probability(self) -> float:
        return (self._right + _PRIOR_RIGHT) / (self._right + self._wrong + _PRIOR)

    def record(self, drafted: int, accepted: int) -> None:
        fade = 0.8 if drafted else 0.985
        self._right = self._right * fade + accepted
        self._wrong = self._wrong * fade + (accepted < drafted)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A decoding sequence with ``length`` guessed tokens, each right with ``probability``."""

    id: str
    length: int
    probability: float

    def expected(self, length: int) -> float:
        """Tokens gained by checking ``length`` of them."""
        p = min(self.probability, 0.999)
        return p * (1 - p**length) / (1 - p)


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds: a step that decodes one token of each sequence, one more row in it, and a
    second pass over the weights, which sequences with and without guesses need together."""

    step_ms: float
    row_ms: float
    pass_ms: float

    def rows_within(self, target_ms: float) -> int:
        """Guessed rows that keep a step under the target, since whoever asks meanwhile waits for
        its end; or under twice the plain step, where a slow model needs most of the target."""
        limit = max(target_ms, 2 * self.step_ms)
        return int((limit - self.step_ms - self.pass_ms) / self.row_ms)


def choose(
    candidates: Collection[Candidate], decoding: int, costs: Costs, rows: int
) -> dict[str, int]:
    """How many guessed tokens of which sequences the next step checks: one number for all who
    take part, since llama.cpp computes together only what has equal lengths. ``decoding``
    sequences are in the step, ``rows`` is how many more rows it takes. Empty when none pays."""
    best: dict[str, int] = {}
    most = 0.0
    token_ms = costs.step_ms / max(1, decoding)
    for length in _LENGTHS:
        worth = {
            one.id: one.expected(length) * token_ms - length * costs.row_ms
            for one in candidates
            if one.length >= length
        }
        chosen = [id for id, gain in worth.items() if gain > 0]
        if not chosen or len(chosen) * length > rows:
            continue
        pass_ms = costs.pass_ms if len(chosen) < decoding else 0.0
        gain = sum(worth[id] for id in chosen) - pass_ms
        # It must pay for being wrong about what it costs, too.
        least = _MARGIN * (len(chosen) * length * costs.row_ms + pass_ms)
        if gain > max(most, least):
            best, most = dict.fromkeys(chosen, length), gain
    return best
