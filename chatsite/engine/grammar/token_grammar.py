"""Constrains an answer by a grammar, token by token.

The sampler draws first, and the drawn token is checked. Only if the grammar rejects it are other
tokens searched: the most likely ones, then those that begin with the characters allowed next.

A grammar comes from a client, so its work on the engine thread is bounded (`WorkBudget`), per step
and owner. A grammar that needs more ends its own answer with an error, and delays no other one.
"""

from __future__ import annotations

import bisect
import codecs
import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from chatsite.engine.contract.backend import BadParameters, ConstraintError, Vocabulary
from chatsite.engine.contract.messages import SamplingParams
from chatsite.engine.grammar.automaton import Automaton, State, WorkExceeded
from chatsite.engine.grammar.gbnf import parse
from chatsite.engine.grammar.json_keys import Keys, keys_of
from chatsite.engine.grammar.schema import to_gbnf

Logits = NDArray[np.float32]
_T = TypeVar("_T")

FIRST_TRIED: Final = 256
_SEARCHED: Final = 2_000  # branches of the vocabulary's trie
# Units of `Automaton.work` for the grammars of one owner: per step, shared evenly by the owner's
# answers; and a pool for steps that need more. Both together take 10 to 20 ms.
STEP_WORK: Final = 12_000
POOL_WORK: Final = 12_000
_REFILL: Final = 3_000  # of the pool, per step
_LEAST: Final = 1_500  # per answer, regardless of the owner's number of answers
_CALL_COST: Final = 2  # units per checked token besides the automaton's work
_KEPT: Final = 16
KEPT_SIZE: Final = 200_000  # positions, of about 400 bytes each
_LAST_CHARACTER: Final = 0x10FFFF


class _Automata:
    """LRU cache of automata.

    It holds at most `_KEPT` automata of `KEPT_SIZE` positions in total, but at least one.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Automaton] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, text: str) -> Automaton:
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = Automaton(parse(text), keys_of(text))
        with self._lock:
            found = self._known.setdefault(key, found)
            while len(self._known) > 1 and (
                len(self._known) > _KEPT
                or sum(one.size for one in self._known.values()) > KEPT_SIZE
            ):
                self._known.popitem(last=False)
        return found


_automata: Final = _Automata()


def compiled(text: str) -> Automaton:
    """Compile GBNF; answers with the same grammar share the automaton. Raise `BadParameters`."""
    try:
        return _automata.of(text)
    except WorkExceeded:
        raise BadParameters(
            "the grammar is too large or too ambiguous: its first character alone exceeds the "
            "work limit"
        ) from None


@functools.lru_cache(maxsize=_KEPT)
def _of_schema(encoded: bytes) -> str:
    return to_gbnf(msgspec.json.decode(encoded))


def automaton_of(params: SamplingParams) -> Automaton | None:
    """Compile the request's constraint; return None without one. Raise `BadParameters`."""
    if params.json_schema is not None:
        return compiled(_of_schema(msgspec.json.encode(params.json_schema)))
    return compiled(params.grammar) if params.grammar else None


# Position of an answer: the state, the first bytes of a character, and the keys of its objects.
_Place = tuple[State, bytes, Keys | None]


@dataclass(frozen=True, slots=True)
class SortedTexts:
    """The texts of a vocabulary in order, with their tokens.

    ``heads`` are all distinct first code points, sorted, and ``head_of`` the index in it for each
    text. ``letters`` are the indices of texts of one character. ``pieces`` are tokens that are
    parts of a character.
    """

    texts: list[str]
    tokens: NDArray[np.int64]
    heads: NDArray[np.int64]
    head_of: NDArray[np.int64]
    letters: NDArray[np.int64]
    pieces: list[int]

    def beginning(self, ranges: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
        """Return a mask of the texts that begin with a character in ``ranges``."""
        bounds = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
        edges = np.zeros(len(self.heads) + 1, dtype=np.int64)
        np.add.at(edges, np.searchsorted(self.heads, bounds[:, 0], side="left"), 1)
        np.add.at(edges, np.searchsorted(self.heads, bounds[:, 1], side="right"), -1)
        allowed: NDArray[np.bool_] = np.cumsum(edges)[:-1] > 0
        return allowed[self.head_of]


class TokenTexts:
    """The texts of a vocabulary's tokens, also in sorted order. Thread-safe."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._texts: dict[int, str | None] = {}
        self._lock = threading.Lock()
        self._sorted: SortedTexts | None = None

    def text(self, token: int) -> str | None:
        """Return the token's text; None for a part of a character and a token without text."""
        try:
            return self._texts[token]
        except KeyError:
            pass
        try:
            text = self._vocabulary.piece(token).decode() or None
        except UnicodeDecodeError:
            text = None
        self._texts[token] = text
        return text

    def prepare(self) -> None:
        """Sort the texts once; takes up to a second for the largest vocabularies."""
        _ = self.ordered

    @property
    def ordered(self) -> SortedTexts:
        with self._lock:
            if self._sorted is None:
                self._sorted = self._sort()
            return self._sorted

    def _sort(self) -> SortedTexts:
        pairs, pieces = [], []
        for token in range(self._vocabulary.size):
            if (text := self.text(token)) is not None:
                pairs.append((text, token))
            elif self._vocabulary.piece(token):
                pieces.append(token)
        pairs.sort()
        texts = [text for text, _ in pairs]
        first = np.fromiter((ord(text[0]) for text in texts), dtype=np.int64, count=len(texts))
        heads, head_of = np.unique(first, return_inverse=True)
        return SortedTexts(
            texts,
            np.fromiter((token for _, token in pairs), dtype=np.int64, count=len(pairs)),
            heads,
            head_of,
            np.flatnonzero(np.fromiter((len(text) == 1 for text in texts), dtype=np.bool_)),
            pieces,
        )


@dataclass(slots=True)
class _Owner:
    """The budget of one owner: number of answers, pool, and the step of the last refill."""

    answers: int = 0
    pool: int = POOL_WORK
    step: int = 0


class WorkBudget:
    """Units of work per owner and engine step. Used on the engine thread."""

    def __init__(self) -> None:
        self.step = 0
        self._owners: dict[str, _Owner] = {}

    def begin_step(self) -> None:
        self.step += 1

    def open(self, owner: str) -> _Owner:
        found = self._owners.setdefault(owner, _Owner(step=self.step))
        found.answers += 1
        return found

    def close(self, owner: str) -> None:
        """Record the end of an answer; an owner without answers is kept until the pool is full."""
        self._owners[owner].answers -= 1
        for name, one in list(self._owners.items()):
            self.refill(one)
            if not one.answers and one.pool == POOL_WORK:
                del self._owners[name]

    def refill(self, owner: _Owner) -> None:
        owner.pool = min(POOL_WORK, owner.pool + _REFILL * (self.step - owner.step))
        owner.step = self.step


class TokenGrammar:
    """The state of one answer within its grammar.

    All methods raise `ConstraintError` once the answer can't continue. ``answer`` holds tokens of
    an earlier attempt, which `ready` reads.
    """

    def __init__(
        self,
        automaton: Automaton,
        vocabulary: Vocabulary,
        texts: TokenTexts,
        answer: Sequence[int],
        budget: WorkBudget | None = None,
        owner: str = "",
    ) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._texts = texts
        self._state = automaton.start
        self._pending = b""  # the first bytes of a character
        self._keys = automaton.keys
        self._unread = list(reversed(answer))
        self._checked: tuple[int, _Place | None] = -1, None  # by the last `takes`
        self._budget = WorkBudget() if budget is None else budget
        self._owner = owner
        self._shared = self._budget.open(owner)
        self._step = -1
        self._own = 0  # units of this step

    def close(self) -> None:
        self._budget.close(self._owner)

    def ready(self) -> bool:
        """Read tokens of an earlier attempt, as many as the step's budget allows.

        Return False if some are left: call again in the next step. Raise `BadParameters` if they do
        not conform to the grammar.
        """
        while self._unread and self._left() > STEP_WORK:
            behind = self._check(self._unread[-1])
            if behind is None:
                raise BadParameters("the text so far does not match the grammar")
            self._state, self._pending, self._keys = behind
            self._unread.pop()
        return not self._unread

    def takes(self, token: int) -> bool:
        behind = self._check(token)
        self._checked = token, behind
        return behind is not None

    def accept(self, token: int) -> None:
        checked, behind = self._checked
        if checked != token:
            behind = self._check(token)
        self._checked = -1, None
        if behind is None:
            raise ConstraintError("the grammar rejects the sampled token")
        self._state, self._pending, self._keys = behind

    def masked(self, logits: Logits) -> Logits:
        """Return the logits with all tokens that are not allowed at minus infinity."""
        count = min(FIRST_TRIED, len(logits))
        likely = np.argpartition(logits, len(logits) - count)[-count:]
        allowed: list[int] = []
        try:
            allowed += [int(token) for token in likely if self.takes(int(token))]
            if not np.isfinite(logits[allowed]).any():
                self._search(logits, allowed)
        except ConstraintError:
            # The tokens found are allowed, though they may not be all.
            if not np.isfinite(logits[allowed]).any():
                raise
        masked = np.full_like(logits, -np.inf)
        if np.isfinite(logits[allowed]).any():
            masked[allowed] = logits[allowed]
        elif self._state.may_end and not self._pending and self._vocabulary.ends:
            masked[min(self._vocabulary.ends)] = 0  # barred, but nothing else is left
        elif allowed:
            raise ConstraintError("`logit_bias` excludes all tokens that the grammar allows")
        else:
            raise ConstraintError(
                "no token of this model can produce the character that the grammar requires here"
            )
        return masked

    def _left(self) -> int:
        if self._step != self._budget.step:
            self._step = self._budget.step
            self._budget.refill(self._shared)
            self._own = max(_LEAST, STEP_WORK // self._shared.answers)
        return self._own + self._shared.pool

    def _bounded(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Call ``work`` within the rest of the budget."""
        automaton = self._automaton
        before = automaton.work
        automaton.limit = before + self._left()
        try:
            return work(*arguments)
        except WorkExceeded:
            raise ConstraintError(
                "its grammar or JSON schema is too ambiguous: it exceeds the work limit of a "
                "request; simplify it (fewer alternatives that begin alike, smaller repetitions)"
            ) from None
        finally:
            self._own -= automaton.work - before + _CALL_COST
            if self._own < 0:
                self._shared.pool = max(0, self._shared.pool + self._own)
                self._own = 0

    def _check(self, token: int) -> _Place | None:
        """Return the position after ``token``; None if it is not allowed here."""
        return self._bounded(self._behind, token)

    def _behind(self, token: int) -> _Place | None:
        if token in self._vocabulary.ends:
            may_end = self._state.may_end and not self._pending
            return (self._state, b"", self._keys) if may_end else None
        text = None if self._pending else self._texts.text(token)
        if text is not None:
            state = self._automaton.walk(self._state, text)
            return None if state is None else self._with_keys(state, b"", text)
        return self._behind_bytes(self._vocabulary.piece(token))

    def _with_keys(self, state: State, rest: bytes, text: str) -> _Place | None:
        if self._keys is None:
            return state, rest, None
        keys = self._keys.after(text)
        return None if keys is None else (state, rest, keys)

    def _behind_bytes(self, piece: bytes) -> _Place | None:
        if not piece:
            return None
        data = self._pending + piece
        try:
            text, used = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return None
        state, rest = self._automaton.walk(self._state, text), data[used:]
        if state is None or (rest and not self._automaton.takes_range(state, *_range(rest))):
            return None
        return self._with_keys(state, rest, text)

    def _search(self, logits: Logits, allowed: list[int]) -> None:
        """Add allowed tokens of the whole vocabulary.

        These are end tokens, all of one character, the most likely of those with an allowed first
        character, others found through up to `_SEARCHED` branches, and parts of characters.
        """
        ordered = self._texts.ordered
        allowed += [token for token in self._vocabulary.ends if self.takes(token)]
        if not self._pending:
            beginning = ordered.beginning(self._bounded(self._automaton.firsts, self._state))
            allowed += ordered.tokens[ordered.letters[beginning[ordered.letters]]].tolist()
            tokens = ordered.tokens[beginning]
            if complete := len(tokens) <= FIRST_TRIED:
                likely = tokens
            else:
                place = len(tokens) - FIRST_TRIED
                likely = tokens[np.argpartition(logits[tokens], place)[place:]]
            allowed += [token for token in likely.tolist() if self.takes(token)]
            if not complete:
                self._descend(ordered, allowed)
            if self._keys is not None:
                quotes = [token for token in allowed if '"' in (self._texts.text(token) or "")]
                twice = {token for token in quotes if not self.takes(token)}
                allowed[:] = [token for token in allowed if token not in twice]
        allowed += [token for token in ordered.pieces if self.takes(token)]

    def _descend(self, ordered: SortedTexts, allowed: list[int]) -> None:
        """Add tokens by walking the vocabulary's trie along the grammar."""
        texts, tokens, automaton = ordered.texts, ordered.tokens, self._automaton
        todo = [(self._state, 0, 0, len(texts))]
        branches = 0
        while todo and branches < _SEARCHED:
            state, depth, at, end = todo.pop()
            prefix = texts[at][:depth]
            while at < end and len(texts[at]) == depth:
                allowed.append(int(tokens[at]))
                at += 1
            for low, high in self._bounded(automaton.firsts, state):
                at = bisect.bisect_left(texts, prefix + chr(low), at, end)
                while at < end and ord(texts[at][depth]) <= high and branches < _SEARCHED:
                    branches += 1
                    longer = texts[at][: depth + 1]
                    until = bisect.bisect_left(texts, _behind_all(longer), at, end)
                    behind = self._bounded(automaton.walk, state, longer[-1])
                    if behind is not None:
                        todo.append((behind, depth + 1, at, until))
                    at = until


def _range(first: bytes) -> tuple[int, int]:
    """Return the range of characters whose UTF-8 encoding begins with these bytes."""
    size = 2 if first[0] < 0xE0 else 3 if first[0] < 0xF0 else 4
    code = first[0] & (0x7F >> size)
    for byte in first[1:]:
        code = code << 6 | byte & 0x3F
    bits = 6 * (size - len(first))
    least = (0, 0, 0x80, 0x800, 0x10000)[size]
    return max(code << bits, least), min((code + 1 << bits) - 1, _LAST_CHARACTER)


def _behind_all(prefix: str) -> str:
    """Return the smallest text after all that begin with ``prefix``."""
    last = ord(prefix[-1])
    return prefix[:-1] + chr(last + 1) if last < _LAST_CHARACTER else prefix + prefix[-1]
