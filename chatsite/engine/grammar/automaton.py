"""A grammar as a pushdown automaton that reads a text character by character.

A state is the set of stacks that the text so far allows. Stacks share their tails and are interned,
and each transition is cached, so a text costs one lookup per character once its states are known.
The alternatives of a rule are a trie with shared suffixes: an enumeration of thousands of literals
is one stack in a state.

All work is counted, each push included, and bounded by `Automaton.limit`: an ambiguous grammar,
whose states grow without bound, raises `WorkExceeded` instead of blocking the engine.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Final

from chatsite.engine.contract.backend import Constraint
from chatsite.engine.grammar.gbnf import (
    Chars,
    Element,
    Grammar,
    Ref,
    Repeat,
    joined,
    nullable_rules,
    productive,
)
from chatsite.engine.grammar.json_keys import Keys

# Units of work; one takes about half a microsecond.
_START_WORK: Final = 200_000
# Maximum of cached stacks, states and transitions, of about 150 bytes each. At this number all are
# dropped; those in use are rebuilt.
_MAX_STORED: Final = 30_000
_LAST_CHARACTER: Final = 0x10FFFF


class WorkExceeded(Exception):
    """The grammar takes more work than the limit."""


_NO_CHARS: Final[dict[int, _Node]] = {}


class _Node:
    """A position within a rule: the branches of a trie, and whether the rule may end here."""

    __slots__ = ("chars", "classes", "cost", "ends", "loops", "refs")

    def __init__(self, ends: bool, branches: Iterable[tuple[Element, _Node]]) -> None:
        self.ends = ends
        chars: dict[int, _Node] = {}
        classes: list[tuple[Chars, _Node]] = []
        refs: list[tuple[int, _Node]] = []
        loops: list[_Loop] = []
        for element, following in branches:
            match element:
                case Ref(rule):
                    refs.append((rule, following))
                case Repeat():
                    loops.append(_Loop(element, following))
                case Chars(((low, high),)) if low == high:
                    chars[low] = following
                case Chars():
                    classes.append((element, following))
        # A grammar may have some hundred thousand nodes, so empty fields share their values.
        self.chars = chars or _NO_CHARS
        self.classes = tuple(classes)
        self.refs = tuple(refs)
        self.loops = tuple(loops)
        self.cost = 1 + len(classes)


class _Loop:
    """A repetition of ``item``, then ``following``. ``hollow``: the item may be empty."""

    __slots__ = ("following", "hollow", "item", "least", "most", "repeat")

    def __init__(self, repeat: Repeat, following: _Node) -> None:
        self.repeat = repeat
        self.following = following
        self.least = repeat.least
        self.most = repeat.most
        self.hollow = False
        self.item = following


class _Stack:
    """What may follow: the branches at ``node``, then ``below``.

    For a loop, ``node`` is its item, repeated for the ``times``-th time.
    """

    __slots__ = ("below", "node", "times")

    def __init__(self, node: _Node | _Loop, times: int, below: _Stack | None) -> None:
        self.node = node
        self.times = times
        self.below = below


class State:
    """The position in a text.

    ``may_end``: the text may end here. ``following`` caches transitions; None: the character is not
    allowed here.
    """

    __slots__ = ("cost", "firsts", "following", "heads", "may_end")

    def __init__(self, heads: list[tuple[_Node, _Stack | None]], may_end: bool) -> None:
        self.heads = heads
        self.may_end = may_end
        self.following: dict[str, State | None] = {}
        self.cost = 1 + sum(node.cost for node, _ in heads)
        self.firsts: list[tuple[int, int]] | None = None


class Automaton(Constraint):
    """A compiled grammar. Not thread-safe after construction.

    ``work`` counts all work and never falls; beyond ``limit``, `WorkExceeded` is raised.
    Construction is bounded too. ``size`` is the number of positions in all rules. ``keys`` of
    objects are tracked beside the grammar.
    """

    def __init__(self, grammar: Grammar, keys: Keys | None = None) -> None:
        self.keys = keys
        self.work = 0
        self.limit = _START_WORK
        self.stored = 0
        self._known: dict[tuple[_Node | _Loop, int, _Stack | None], _Stack] = {}
        self._states: dict[frozenset[_Stack | None], State] = {}
        grammar = productive(grammar)
        build = _Builder()
        self._end = build.node([()])
        self._starts = [build.node(rule) for rule in grammar.rules]
        self.size = build.size
        nullable = nullable_rules(grammar)
        for loop in build.loops():
            loop.item = build.node([(loop.repeat.item,)])
            loop.hollow = isinstance(loop.repeat.item, Ref) and nullable[loop.repeat.item.rule]
        self.start = self._state([self._push(self._starts[grammar.root], None)])

    def step(self, state: State, character: str) -> State | None:
        """Return the state after ``character``; None if it is not allowed here."""
        self._spend(state.cost)
        code = ord(character)
        stacks: list[_Stack | None] = []
        for node, below in state.heads:
            if (after := node.chars.get(code)) is not None:
                stacks.append(self._push(after, below))
            for chars, after in node.classes:
                if chars.takes(code):
                    stacks.append(self._push(after, below))
        found = self._state(stacks) if stacks else None
        state.following[character] = found
        self.stored += 1
        return found

    def walk(self, state: State, text: str) -> State | None:
        """Return the state after ``text``; None if it is not allowed here."""
        for character in text:
            try:
                found = state.following[character]
            except KeyError:
                found = self.step(state, character)
            if found is None:
                return None
            state = found
        return state

    def firsts(self, state: State) -> list[tuple[int, int]]:
        """Return the ranges of code points allowed here: sorted, disjoint and not adjacent."""
        if state.firsts is None:
            found = [(code, code) for node, _ in state.heads for code in node.chars]
            for node, _ in state.heads:
                for chars, _ in node.classes:
                    found += chars.ranges
            self._spend(len(found))
            state.firsts = joined(found)
        return state.firsts

    def takes_range(self, state: State, low: int, high: int) -> bool:
        """Return whether any of these characters is allowed here."""
        ranges = self.firsts(state)
        at = bisect.bisect_right(ranges, (high, _LAST_CHARACTER)) - 1
        return at >= 0 and ranges[at][1] >= low

    def _spend(self, work: int) -> None:
        self.work += work
        if self.work > self.limit:
            raise WorkExceeded

    def _push(self, node: _Node, below: _Stack | None) -> _Stack | None:
        # The rule is complete, so it is replaced by what is below: right recursion does not grow
        # the stack.
        return below if node is self._end else self.interned(node, 0, below)

    def interned(self, node: _Node | _Loop, times: int, below: _Stack | None) -> _Stack:
        self._spend(1)
        key = (node, times, below)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _Stack(node, times, below)
            self.stored += 1
        return found

    def _state(self, stacks: list[_Stack | None]) -> State:
        """Return the state of these stacks, with the rules and loops at their tops expanded."""
        heads: list[tuple[_Node, _Stack | None]] = []
        tops: set[_Stack | None] = set()
        seen: set[_Stack | None] = set()
        rounds: dict[tuple[_Loop, _Stack | None], int] = {}
        todo = stacks
        while todo:
            stack = todo.pop()
            self._spend(1)
            if stack in seen:
                continue
            seen.add(stack)
            if stack is None:
                tops.add(None)
                continue
            node, below = stack.node, stack.below
            if isinstance(node, _Loop):
                todo += self._round(node, stack, rounds)
                continue
            if node.chars or node.classes:
                tops.add(stack)
                heads.append((node, below))
            if node.ends:
                todo.append(below)
            for rule, following in node.refs:
                todo.append(self._push(self._starts[rule], self._push(following, below)))
            for loop in node.loops:
                todo.append(self.interned(loop, 0, below))
        key = frozenset(tops)
        state = self._states.get(key)
        if state is None:
            if self.stored > _MAX_STORED:
                self._forget()
            state = self._states[key] = State(heads, None in tops)
            self.stored += 1 + len(heads)
        return state

    def _round(
        self, loop: _Loop, stack: _Stack, rounds: dict[tuple[_Loop, _Stack | None], int]
    ) -> list[_Stack | None]:
        """Return the stacks of another round of the loop, and of its end."""
        below, times = stack.below, stack.times
        if loop.hollow:
            # Rounds may be empty, so fewer completed rounds allow everything that more do.
            if rounds.get((loop, below), times + 1) <= times:
                return []
            rounds[loop, below] = times
        ways: list[_Stack | None] = []
        if loop.hollow or times >= loop.least:
            ways.append(self._push(loop.following, below))
        if loop.most is None or times < loop.most:
            # Without an upper bound, all counts from the lower bound on are equivalent.
            last = loop.least if loop.most is None else loop.most
            again = self.interned(loop, min(times + 1, last), below)
            ways.append(self._push(loop.item, again))
        return ways

    def _forget(self) -> None:
        # States in use are referenced by the transitions of others.
        for state in self._states.values():
            state.following.clear()
        self._states.clear()
        self._known.clear()
        self.stored = 0


class _Builder:
    """Builds nodes and shares equal ones."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[bool, frozenset[tuple[Element, _Node]]], _Node] = {}

    def node(self, rule: Iterable[tuple[Element, ...]]) -> _Node:
        """Return the trie of the sequences of a rule."""
        root: dict[Element | None, dict] = {}  # type: ignore[type-arg]
        for sequence in rule:
            at = root
            for element in sequence:
                at = at.setdefault(element, {})
            at[None] = {}
        done: dict[int, _Node] = {}
        todo = [root]
        while todo:
            draft = todo[-1]
            missing = [one for key, one in draft.items() if key and id(one) not in done]
            if missing:
                todo += missing
                continue
            todo.pop()
            branches = [(key, done[id(one)]) for key, one in draft.items() if key]
            key = (None in draft, frozenset(branches))
            if key not in self._nodes:
                self._nodes[key] = _Node(None in draft, branches)
            done[id(draft)] = self._nodes[key]
        return done[id(root)]

    @property
    def size(self) -> int:
        return len(self._nodes)

    def loops(self) -> list[_Loop]:
        return [loop for node in list(self._nodes.values()) for loop in node.loops]
