"""Prompt-lookup speculative decoding: drafts from the text so far, verified in one step.

Where a text repeats earlier text (edits, quotes, code, lists), the tokens that followed the last
occurrence of the same three tokens are a good draft of what comes next. A step that decodes the
draft behind the last token costs a fraction of a step per drafted token. The sampler then samples
from each row in turn while it agrees with the draft, so the answer is exactly what it would be
without drafts.

Whether that pays is measured: `Acceptance` counts how often a sequence's drafts were right, or
would have been, and `choose` weighs that against the cost of rows on this machine and drafts
nothing where it does not pay.

Pure: no clock, no model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Final, Protocol

# Length of the match, in tokens.
_MATCH: Final = 3
MOST: Final = 16
_MARGIN: Final = 0.25
# Prior: this many drafted tokens, of which this share was right. Three tokens in a row that
# occurred before are followed by the same fourth more often than not.
_PRIOR: Final = 2.0
_PRIOR_RIGHT: Final = 0.8
_FADE: Final = 0.92
_LENGTHS: Final = (1, 2, 3, 4, 6, 8, 12, MOST)


class PromptLookupDrafter:
    """The last occurrence of each run of three tokens in one sequence that only grows.

    A copied passage keeps to its source: while the source continues as the sequence does, drafts
    are read from there, also behind a replaced token, rather than from another occurrence of the
    same three tokens.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], int] = {}
        self._indexed = _MATCH
        self._source = 0  # drafts continue from this index
        self._length = 0  # of the sequence at that time

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Return up to ``most`` tokens that may follow ``tokens``; none if its end is new."""
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
        # In a text that repeats itself the draft continues with its own beginning.
        period = len(tokens) - start
        while len(draft) < most:
            draft.append(draft[len(draft) - period])
        return draft


class Acceptance:
    """Estimates how likely a sequence's next drafted tokens are right.

    Earlier drafts count, whether verified or only compared with the sampled token; the last dozen
    count most. The estimate depends on how many were right in a row: a text that fills in a form is
    wrong in the same places each time, a text that copies hardly anywhere.
    """

    def __init__(self) -> None:
        self._all = _Share()
        self._after = [_Share() for _ in range(MOST + 1)]  # by number right in a row
        self._run = 0

    def odds(self, length: int) -> list[float]:
        """Return the probabilities that the next 1, 2, … drafted tokens are all right."""
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
    """Decayed counts of right and wrong drafted tokens."""

    right: float = 0.0
    wrong: float = 0.0

    def of(self, prior: float) -> float:
        return (self.right + _PRIOR * prior) / (self.right + self.wrong + _PRIOR)

    def add(self, right: bool) -> None:
        self.right = self.right * _FADE + right
        self.wrong = self.wrong * _FADE + (not right)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A decoding sequence with drafted tokens.

    ``expected`` are the tokens gained by verifying one of them, two, and so on.
    """

    id: str
    expected: Sequence[float]

    @classmethod
    def of(cls, id: str, odds: Sequence[float]) -> Candidate:
        """Return a candidate.

        ``odds`` are the probabilities that the first 1, 2, … drafted tokens are all right.
        """
        return cls(id, list(accumulate(odds)))


class Costs(Protocol):
    """Measured cost of a pass; implemented in `speed.py`."""

    def rows_ms(self, rows: int) -> float:
        """Return the milliseconds of one pass over ``rows`` rows, with an output each."""
        ...


def choose(
    candidates: Collection[Candidate],
    decoding: int,
    costs: Costs,
    *,
    rows: int,
    target_ms: float,
) -> dict[str, int]:
    """Return how many drafted tokens of which sequences the next step verifies; empty if none pays.

    The number is the same for all chosen sequences: llama.cpp computes only equal lengths together,
    and the drafts of some of the ``decoding`` sequences are a second pass. ``rows`` is how many
    more rows the step takes.

    Drafts keep a step under half of the target, since a new request waits for its end and streams
    arrive in larger pieces; or under twice the plain step, where a slow model needs most of the
    target.
    """
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
            # The margin covers errors in the estimated cost.
            gain = gained_ms - cost_ms
            if gain > max(most, _MARGIN * cost_ms):
                best, most = {id: length for _, id in able[:count]}, gain
    return best
