"""Prompt-lookup speculative decoding: tokens guessed from the text so far, checked in one step.

Where a text repeats what it or its prompt said before (edits, quotes, code, lists), the tokens
that followed the same three tokens last time are a good guess at what comes now. A step that
decodes the guess beside the last token costs a fraction of a step for each; the sampler then
draws from every row in turn for as long as it agrees with the guess, so the answer is exactly
what it would have been without.

Whether that pays is measured: `Acceptance` counts how often a sequence's guesses were right, or
would have been, `choose` weighs it against what rows cost on this machine, and guesses nothing
where it does not.

Pure: no clock, no model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Final, Protocol

# Tokens that must have been there before, in a row.
_MATCH: Final = 3
MOST: Final = 16
_MARGIN: Final = 0.25
# Before anything was counted, as many guesses of which that share was right: three tokens in a
# row that were there before are followed by the same fourth more often than not.
_PRIOR: Final = 2.0
_PRIOR_RIGHT: Final = 0.8
_FADE: Final = 0.92
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
    """How likely the next guessed tokens of a sequence are right, from those before, which were
    checked or only compared with what came; the last dozen count most.

    It depends on how many in a row were right: a text that fills in a form is wrong in the same
    places again and again, one that copies hardly anywhere."""

    def __init__(self) -> None:
        self._all = _Share()
        self._after = [_Share() for _ in range(MOST + 1)]  # by how many were right in a row
        self._run = 0

    def odds(self, length: int) -> list[float]:
        """That the next guess is right, the next two are, and so on."""
        prior = self._all.of(_PRIOR_RIGHT)
        runs = range(self._run, self._run + length)
        return list(accumulate((self._after[min(run, MOST)].of(prior) for run in runs), mul))

    def record(self, drafted: int, accepted: int) -> None:
        for right in [True] * accepted + [False] * (accepted < drafted):
            self._all.add(right)
            self._after[min(self._run, MOST)].add(right)
            self._run = self._run + 1 if right else 0


@dataclass(slots=True)
class _Share:
    """Of right ones, as in `Acceptance`."""

    right: float = 0.0
    wrong: float = 0.0

    def of(self, prior: float) -> float:
        return (self.right + _PRIOR * prior) / (self.right + self.wrong + _PRIOR)

    def add(self, right: bool) -> None:
        self.right = self.right * _FADE + right
        self.wrong = self.wrong * _FADE + (not right)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A decoding sequence with guessed tokens; ``expected`` are the tokens gained by checking one
    of them, two, and so on."""

    id: str
    expected: Sequence[float]

    @classmethod
    def of(cls, id: str, odds: Sequence[float]) -> Candidate:
        """``odds``: that the first guess is right, the first two are, and so on."""
        return cls(id, list(accumulate(odds)))


class Costs(Protocol):
    def rows_ms(self, rows: int) -> float:
        """Milliseconds that one pass over so many rows takes, with an output each."""
        ...


def choose(
    candidates: Collection[Candidate],
    decoding: int,
    costs: Costs,
    *,
    rows: int,
    target_ms: float,
) -> dict[str, int]:
    """How many guessed tokens of which sequences the next step checks: one number for all who
    take part, since llama.cpp computes together only what has equal lengths; guesses of some of
    the ``decoding`` sequences are a second pass. ``rows`` is how many more rows the step takes.

    Guesses keep a step under half of the target, since whoever asks meanwhile waits for its end,
    and streams come in larger pieces; or under twice the plain step, where a slow model needs most
    of the target. Empty when none pays."""
    step_ms = costs.rows_ms(decoding)
    token_ms = step_ms / max(1, decoding)
    limit_ms = max(target_ms / 2, 2 * step_ms)
    best: dict[str, int] = {}
    most = 0.0
    for length in _LENGTHS:
        able = [
            (one.expected[length - 1], one.id) for one in candidates if len(one.expected) >= length
        ]
        able.sort(reverse=True)
        gained_ms = 0.0
        for count, (expected, _id) in enumerate(able, 1):
            drafted = count * length
            gained_ms += expected * token_ms
            if count < decoding:
                cost_ms = costs.rows_ms(drafted)
            else:
                cost_ms = costs.rows_ms(decoding + drafted) - step_ms
            if drafted > rows or step_ms + cost_ms > limit_ms:
                break
            # It must pay for being wrong about what it costs, too.
            gain = gained_ms - cost_ms
            if gain > max(most, _MARGIN * cost_ms):
                best, most = {id: length for _, id in able[:count]}, gain
    return best
