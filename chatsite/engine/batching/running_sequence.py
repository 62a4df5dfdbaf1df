"""One request inside the engine: its tokens, text and timings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import takewhile

from chatsite.engine.batching.repetition import RepetitionDetector
from chatsite.engine.batching.slots import PrefixQuery, Slot
from chatsite.engine.batching.speculation import MOST, Acceptance, Candidate, PromptLookupDrafter
from chatsite.engine.contract.backend import Sampler, Vocabulary
from chatsite.engine.contract.messages import Delta, FinishReason, TokenLogprob, Usage
from chatsite.engine.prompting.detokenize import TextStream
from chatsite.engine.prompting.prompt import Prompt


@dataclass(slots=True)
class RunningSequence:
    """A waiting or running request.

    ``tokens`` are the prompt, the prefix and all sampled tokens; the slot's KV cache lags behind.
    ``stop_tokens`` end the answer, besides the vocabulary's own end tokens. ``scores`` are the
    prompt's log probabilities; ``scored`` is true while they are requested and incomplete.
    ``completion`` counts the answer's tokens, including those of an earlier attempt. ``faults``
    counts consecutive failed steps. ``draft`` holds drafted tokens that the next step verifies.
    ``hunch`` is a drafted token that is not worth verifying but is compared with the sampled one,
    to measure how good drafts are. Times are in seconds of the engine's clock.
    """

    prompt: Prompt
    tokens: list[int] = field(init=False)
    text: TextStream = field(init=False)
    completion: int = field(init=False)
    stop_tokens: frozenset[int] = field(init=False)
    slot: Slot | None = None
    sampler: Sampler | None = None
    cached: int = 0
    faults: int = 0
    draft: list[int] = field(default_factory=list)
    hunch: int | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    scored: bool = field(init=False)
    scores: list[TokenLogprob] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    started: float | None = None
    first_token: float | None = None
    acceptance: Acceptance = field(default_factory=Acceptance)
    _lookup: PromptLookupDrafter = field(default_factory=PromptLookupDrafter)
    _unsent: int = 0
    _repetition: RepetitionDetector | None = None

    def __post_init__(self) -> None:
        params = self.prompt.params
        if params.stop_repetition and not params.ignore_eos:
            self._repetition = RepetitionDetector(len(self.prompt.tokens))
        self.tokens = list(self.prompt.tokens)
        self.text = TextStream(self.prompt.stops)
        self.completion = self.prompt.generated
        self.stop_tokens = frozenset(self.prompt.params.stop_tokens)
        self.scored = self.prompt.scored

    @property
    def id(self) -> str:
        return self.prompt.id

    @property
    def pending(self) -> int:
        """Number of tokens that are not in the KV cache yet."""
        return len(self.tokens) - (len(self.slot.tokens) if self.slot else 0)

    @property
    def prefix_query(self) -> PrefixQuery:
        return PrefixQuery(self.prompt.owner, self.tokens, self.prompt.shared)

    def full(self, context: int) -> bool:
        """Return whether the context or the request's limit has no room for another token."""
        if self.prompt.ends_with_prompt:
            return True
        limit = self.prompt.params.max_tokens
        return len(self.tokens) >= context or (limit is not None and self.completion >= limit)

    def ends_with(self, token: int, vocabulary: Vocabulary) -> bool:
        return token in vocabulary.ends or token in self.stop_tokens

    def guess(self, vocabulary: Vocabulary, context: int) -> Candidate:
        """Draft the next tokens and return them as a candidate with their expected gain.

        The draft stops at the remaining room and before an end token, which is sampled when it is
        due. A request with a seed gets no draft: batch composition changes the last digits of
        logits, and the same seed must give the same answer.
        """
        if self.prompt.params.seed is not None:
            return Candidate(self.id, ())
        limit = self.prompt.params.max_tokens
        room = context - len(self.tokens) - 1
        if limit is not None:
            room = min(room, limit - self.completion - 1)
        guessed = self._lookup.draft(self.tokens, min(room, MOST)) if room > 0 else []
        self.draft = list(takewhile(lambda token: not self.ends_with(token, vocabulary), guessed))
        return Candidate.of(self.id, self.acceptance.odds(len(self.draft)))

    def take(
        self, token: int, vocabulary: Vocabulary, context: int
    ) -> tuple[str, FinishReason | None]:
        """Append a sampled token; return the text to emit, and the reason if the answer ends."""
        if self.ends_with(token, vocabulary):
            return self.text.flush(cut=False), "stop"
        self.tokens.append(token)
        self.completion += 1
        self._unsent += 1
        text = self.text.push(vocabulary.piece(token))
        if self.text.stopped:
            return text, "stop"
        if self.full(context):
            return text + self.text.flush(cut=True), "length"
        if self._repeats():
            return text + self.text.flush(cut=True), "repetition"
        return text, None

    def _repeats(self) -> bool:
        """Return whether the answer repeats itself and is long enough to be ended for it."""
        found = self._repetition is not None and self._repetition.repeats(self.tokens)
        return found and self.completion >= self.prompt.params.min_tokens

    def score(self, start: int, count: int, row: int, vocabulary: Vocabulary) -> bool:
        """Read the log probabilities of prompt tokens from ``count`` rows of logits.

        The rows start at ``row`` and belong to the tokens from ``start`` on; each scores the token
        after it. Return True when the last prompt token has been scored.
        """
        if self.sampler is None:
            return False
        first, length = self.prompt.echoed_from, self.prompt.prompt_tokens
        if start == 0 and first == 0:
            self.scores.append(
                TokenLogprob(self.tokens[0], vocabulary.piece(self.tokens[0]), math.nan)
            )
        for at in range(start, min(start + count, length - 1)):
            found = self.sampler.logprob(row + at - start, self.tokens[at + 1])
            if at + 1 >= first and found is not None:
                self.scores.append(found)
        self.scored = start + count < length
        return not self.scored

    def delta(self, text: str, *, last: bool = False) -> Delta | None:
        """Return ``text`` with its token count, or None if there is no text yet.

        Without text the tokens are counted in a later delta. The ``last`` delta also carries the
        log probabilities of tokens that produced no text.
        """
        if not text and not (last and self.logprobs):
            return None
        delta = Delta(self.id, text, self._unsent, tuple(self.logprobs))
        self._unsent = 0
        self.logprobs = []
        return delta

    def usage(self, now: float) -> Usage:
        started = now if self.started is None else self.started
        first = now if self.first_token is None else self.first_token
        return Usage(
            prompt_tokens=self.prompt.prompt_tokens,
            cached_tokens=self.cached,
            completion_tokens=self.completion,
            queue_ms=(started - self.prompt.arrived) * 1e3,
            prefill_ms=(first - started) * 1e3,
            decode_ms=(now - first) * 1e3,
            drafted=self.drafted,
            accepted=self.accepted,
            left_out=self.prompt.left_out,
        )


@dataclass(frozen=True, slots=True)
class Sampled:
    """``tokens`` that one step sampled for a sequence, with ``logprobs`` if requested.

    All tokens but the last were among the ``drafted`` ones.
    """

    sequence: RunningSequence
    tokens: list[int]
    logprobs: list[TokenLogprob | None]
    drafted: int


def draw(sequence: RunningSequence, sampler: Sampler, row: int) -> Sampled:
    """Sample from the logits of ``row`` and, while drafted tokens match, from the rows behind it.

    Raise `ComputeError` or `ConstraintError`.
    """
    tokens = [sampler.sample(row)]
    logprobs = [sampler.logprob(row, tokens[0])]
    for guessed in sequence.draft:
        if tokens[-1] != guessed:
            break
        row += 1
        tokens.append(sampler.sample(row))
        logprobs.append(sampler.logprob(row, tokens[-1]))
    return Sampled(sequence, tokens, logprobs, len(sequence.draft))
