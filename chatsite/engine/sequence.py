"""One request inside the engine: its tokens, its text, its times."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from chatsite.engine.backend import Sampler, Vocabulary
from chatsite.engine.detokenize import TextStream
from chatsite.engine.messages import Delta, FinishReason, TokenLogprob, Usage
from chatsite.engine.prompt import Prompt
from chatsite.engine.slots import Slot, Wanted
from chatsite.engine.speculation import MOST, Acceptance, Candidate, Lookup


@dataclass(slots=True)
class Sequence:
    """``tokens``: prompt, prefix, and all that was sampled; the slot's KV memory lags behind.
    ``completion`` counts the answer's tokens, those of an earlier attempt included. ``faults``
    counts failed steps in a row. ``draft`` is guessed to follow and is decoded with the next
    step; ``hunch`` is a guess that is not worth that, but tells how good guesses are. Times are
    the engine clock's, in seconds."""

    prompt: Prompt
    tokens: list[int] = field(init=False)
    text: TextStream = field(init=False)
    completion: int = field(init=False)
    slot: Slot | None = None
    sampler: Sampler | None = None
    cached: int = 0
    faults: int = 0
    draft: list[int] = field(default_factory=list)
    hunch: int | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    started: float | None = None
    first_token: float | None = None
    acceptance: Acceptance = field(default_factory=Acceptance)
    _lookup: Lookup = field(default_factory=Lookup)
    _unsent: int = 0

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt.tokens)
        self.text = TextStream(self.prompt.stops)
        self.completion = self.prompt.generated

    @property
    def id(self) -> str:
        return self.prompt.id

    @property
    def pending(self) -> int:
        """Tokens that the KV memory lacks."""
        return len(self.tokens) - (len(self.slot.tokens) if self.slot else 0)

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.prompt.owner, self.tokens, self.prompt.shared)

    def full(self, context: int) -> bool:
        """No room for another token, in the context or under the request's limit."""
        limit = self.prompt.params.max_tokens
        return len(self.tokens) >= context or (limit is not None and self.completion >= limit)

    def guess(self, vocabulary: Vocabulary, context: int) -> Candidate:
        """What may follow, within the room that is left and up to an end, which is drawn as
        soon as it is due; and how likely it is right. Nothing with a seed: how rows are put
        together shows in the last digits, and the same seed must give the same answer."""
        if self.prompt.params.seed is not None:
            return Candidate(self.id, ())
        limit = self.prompt.params.max_tokens
        room = context - len(self.tokens) - 1
        if limit is not None:
            room = min(room, limit - self.completion - 1)
        guessed = self._lookup.draft(self.tokens, min(room, MOST)) if room > 0 else []
        self.draft = list(takewhile(lambda token: token not in vocabulary.ends, guessed))
        return Candidate.of(self.id, self.acceptance.odds(len(self.draft)))

    def take(
        self, token: int, vocabulary: Vocabulary, context: int
    ) -> tuple[str, FinishReason | None]:
        """Adds a sampled token. Returns text that may be shown, and why the answer is over."""
        if token in vocabulary.ends:
            return self.text.flush(cut=False), "stop"
        self.tokens.append(token)
        self.completion += 1
        self._unsent += 1
        text = self.text.push(vocabulary.piece(token))
        if self.text.stopped:
            return text, "stop"
        if self.full(context):
            return text + self.text.flush(cut=True), "length"
        return text, None

    def delta(self, text: str, *, last: bool = False) -> Delta | None:
        """``text`` with the tokens it took; None, and the tokens wait, if there is none. The
        ``last`` one also brings log probabilities of tokens that gave no text."""
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
    """``tokens`` that one step gave a sequence, with ``logprobs`` if wanted; all but the last of
    them had been guessed, among ``drafted`` guesses."""

    sequence: Sequence
    tokens: list[int]
    logprobs: list[TokenLogprob | None]
    drafted: int


def draw(sequence: Sequence, sampler: Sampler, row: int) -> Sampled:
    """From the logits of ``row`` and, while guesses were right, of those behind it. Raises
    `ComputeError`."""
    tokens = [sampler.sample(row)]
    logprobs = [sampler.logprob(row, tokens[0])]
    for guessed in sequence.draft:
        if tokens[-1] != guessed:
            break
        row += 1
        tokens.append(sampler.sample(row))
        logprobs.append(sampler.logprob(row, tokens[-1]))
    return Sampled(sequence, tokens, logprobs, len(sequence.draft))
