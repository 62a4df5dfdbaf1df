"""A grammar, followed character by character.

A state is the set of stacks that the text so far allows: what is still to come, the next
character first. Stacks share their tails and are never stored twice, and where a character
leads is remembered, so following a text costs one look-up for each character once its states
are known. All work is counted: an ambiguous grammar, whose states grow without end, is given up
instead of followed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chatsite.engine.gbnf import Chars, Element, Grammar, Ref, Repeat

# Of one state. Grammars of JSON schemas have a few dozen stacks at most.
_MAX_STACKS: Final = 500
_MAX_STEP_WORK: Final = 20_000
# States and stacks that are remembered; then all are forgotten, and those in use found again.
_MAX_STATES: Final = 20_000
_MAX_KNOWN: Final = 500_000


class TooAmbiguous(Exception):
    """More ways to go on than are followed."""


class _Stack:
    """What is to come: the element at ``at`` of the program (a repeated one for the
    ``times``th time), then what ``below`` says."""

    __slots__ = ("at", "below", "times")

    def __init__(self, at: int, times: int, below: _Stack | None) -> None:
        self.at = at
        self.times = times
        self.below = below


class State:
    """``stacks`` begin with a character each; None among them: the text may end here."""

    __slots__ = ("following", "may_end", "stacks")

    def __init__(self, stacks: frozenset[_Stack | None]) -> None:
        self.stacks = tuple(stack for stack in stacks if stack is not None)
        self.may_end = None in stacks
        self.following: dict[str, State | None] = {}


class Automaton:
    """``work`` counts the stacks that were looked at, and never falls. Raises `TooAmbiguous`.
    Not thread-safe but for its making."""

    def __init__(self, grammar: Grammar) -> None:
        self.work = 0
        # Sequences one after another, each with None at its end.
        self._program: list[Element | None] = []
        self._starts = [
            [self._add(sequence) for sequence in sequences] for sequences in grammar.rules
        ]
        self._items: dict[int, int] = {}  # of a repetition: its item as a sequence
        for at, element in enumerate(list(self._program)):
            if isinstance(element, Repeat):
                self._items[at] = self._add((element.item,))
        self._known: dict[tuple[int, int, _Stack | None], _Stack] = {}
        self._states: dict[frozenset[_Stack | None], State] = {}
        begin = [self._push(start, None) for start in self._starts[grammar.root]]
        self.start = self._state(self._expanded(begin))

    def step(self, state: State, character: str) -> State | None:
        """Where ``character`` leads; None: it can't stand here."""
        code = ord(character)
        stacks = [self._after(one) for one in state.stacks if self._chars(one).takes(code)]
        found = self._state(self._expanded(stacks)) if stacks else None
        state.following[character] = found
        return found

    def walk(self, state: State, text: str) -> State | None:
        for character in text:
            try:
                found = state.following[character]
            except KeyError:
                found = self.step(state, character)
            if found is None:
                return None
            state = found
        return state

    def takes_range(self, state: State, low: int, high: int) -> bool:
        """Whether any of these characters can stand here."""
        return any(self._chars(stack).overlaps(low, high) for stack in state.stacks)

    def _add(self, sequence: tuple[Element, ...]) -> int:
        start = len(self._program)
        self._program += [*sequence, None]
        return start

    def _chars(self, stack: _Stack) -> Chars:
        element = self._program[stack.at]
        if not isinstance(element, Chars):
            raise TypeError("a stack of a state begins with a character")
        return element

    def _state(self, stacks: frozenset[_Stack | None]) -> State:
        if len(self._states) > _MAX_STATES or len(self._known) > _MAX_KNOWN:
            self._states.clear()
            self._known.clear()
        if stacks not in self._states:
            self._states[stacks] = State(stacks)
        return self._states[stacks]

    def _push(self, at: int, below: _Stack | None, times: int = 0) -> _Stack | None:
        if self._program[at] is None:
            return below
        key = (at, times, below)
        if key not in self._known:
            self._known[key] = _Stack(at, times, below)
        return self._known[key]

    def _after(self, stack: _Stack) -> _Stack | None:
        return self._push(stack.at + 1, stack.below)

    def _expanded(self, stacks: Iterable[_Stack | None]) -> frozenset[_Stack | None]:
        """The stacks with rules and repetitions in front replaced by what they begin with."""
        todo = list(stacks)
        seen: set[_Stack | None] = set()
        found: set[_Stack | None] = set()
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            self.work += 1
            if len(seen) > _MAX_STEP_WORK or len(found) > _MAX_STACKS:
                raise TooAmbiguous
            if stack is None:
                found.add(None)
                continue
            element = self._program[stack.at]
            if isinstance(element, Ref):
                below = self._after(stack)
                todo += [self._push(start, below) for start in self._starts[element.rule]]
            elif isinstance(element, Repeat):
                todo += self._repeated(element, stack)
            else:
                found.add(stack)
        return frozenset(found)

    def _repeated(self, element: Repeat, stack: _Stack) -> list[_Stack | None]:
        ways = []
        if stack.times >= element.least:
            ways.append(self._after(stack))
        if element.most is None or stack.times < element.most:
            # Without an upper end, all times behind the least are one.
            last = element.least if element.most is None else element.most
            again = self._push(stack.at, stack.below, min(stack.times + 1, last))
            ways.append(self._push(self._items[stack.at], again))
        return ways
