"""Regular languages of strings: the intersection of patterns, formats and lengths.

A language is an expression over sets of characters. `rules` intersects several languages and a
range of lengths as a deterministic automaton, written as GBNF of the string's JSON text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chatsite.engine.grammar.gbnf import Chars, Element, Grammar, Repeat, joined

_LAST_CHARACTER: Final = 0x10FFFF
# Maximum states of one expression with its repetitions unrolled, of the intersection, and edges.
_MAX_STATES: Final = 20_000
_MAX_NODES: Final = 6_000
_MAX_EDGES: Final = 60_000
_MAX_WORK: Final = 1_000_000

Ranges = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Letter:
    """One character of ``ranges``, which are sorted and disjoint."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence of ``parts``."""

    parts: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several alternatives."""

    ways: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """``item`` repeated ``least`` to ``most`` times; None: unbounded."""

    item: Language
    least: int
    most: int | None


Language = Letter | Row | Choice | Times
ANY: Final = Letter(((0, _LAST_CHARACTER),))


class TooLarge(Exception):
    """The intersection exceeds the limit of states."""


def letter(ranges: Iterable[tuple[int, int]]) -> Letter:
    """Return a letter of ``ranges`` in any order."""
    return Letter(tuple(joined(ranges)))


def quoted(text: str) -> str:
    """Return ``text`` as a GBNF literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f]", lambda one: f"\\x{ord(one[0]):02x}", escaped) + '"'


def without(ranges: Ranges) -> list[tuple[int, int]]:
    """Return the ranges of all characters that are not in ``ranges``."""
    gaps, begin = [], 0
    for first, last in sorted(ranges):
        if begin < first:
            gaps.append((begin, first - 1))
        begin = max(begin, last + 1)
    return [*gaps, (begin, _LAST_CHARACTER)] if begin <= _LAST_CHARACTER else gaps


def gbnf(language: Language, letters: Callable[[Ranges], str] | None = None) -> str:
    """Return the GBNF of one language.

    ``letters`` writes a set of characters; by default as within a JSON string.
    """
    match language:
        case Letter(ranges):
            if letters is not None:
                return letters(ranges)
            return "char" if language == ANY else in_quotes(ranges)
        case Row(parts):
            return f"( {' '.join(gbnf(one, letters) for one in parts)} )" if parts else '""'
        case Choice(ways):
            return f"( {' | '.join(gbnf(one, letters) for one in ways)} )"
        case Times(item, least, most):
            return f"{gbnf(item, letters)}{{{least},{'' if most is None else most}}}"


def lengths(language: Language) -> tuple[int, int | None]:
    """Return the minimum and maximum length of a text, in characters; None: unbounded."""
    match language:
        case Letter():
            return 1, 1
        case Row(parts):
            every = [lengths(one) for one in parts]
            most = [one for _, one in every]
            return sum(one for one, _ in every), _total(most)
        case Choice(ways):
            every = [lengths(one) for one in ways]
            most = [one for _, one in every]
            longest = None if None in most else max(one for one in most if one is not None)
            return min(one for one, _ in every), longest
        case Times(item, least, times):
            fewest, longest = lengths(item)
            if longest == 0 or times == 0:
                return 0, 0
            unbounded = times is None or longest is None
            return fewest * least, None if unbounded else (longest or 0) * (times or 0)


def _total(numbers: Sequence[int | None]) -> int | None:
    return None if None in numbers else sum(one for one in numbers if one is not None)


def of_rule(grammar: Grammar, name: str) -> Language:
    """Return the language of a rule that is not recursive."""

    def of(element: Element) -> Language:
        match element:
            case Chars(ranges):
                return Letter(ranges)
            case Repeat(item, least, most):
                return Times(of(item), least, most)
            case _:
                return rule(element.rule)

    def rule(number: int) -> Language:
        ways = tuple(Row(tuple(map(of, sequence))) for sequence in grammar.rules[number])
        return ways[0] if len(ways) == 1 else Choice(ways)

    return rule(grammar.names.index(name))


def within(language: Language, least: int, most: int | None) -> Language | None:
    """Return the language limited to these lengths, or None if no expression can say that."""
    fewest, longest = lengths(language)
    if fewest >= least and (most is None or (longest is not None and longest <= most)):
        return language
    while isinstance(language, Row | Choice):
        parts = language.parts if isinstance(language, Row) else language.ways
        if len(parts) != 1:
            return None
        language = parts[0]
    if not isinstance(language, Times) or not isinstance(language.item, Letter):
        return None
    upper = [one for one in (language.most, most) if one is not None]
    last = min(upper, default=None)
    first = max(language.least, least)
    return Times(language.item, first, last) if last is None or first <= last else None


def matcher(languages: Sequence[Language]) -> Callable[[str], bool]:
    """Return a check whether all languages contain a text. Both raise `TooLarge`."""
    machines = [_Machine(one) for one in languages]

    def takes(text: str) -> bool:
        for machine in machines:
            states = machine.start
            for character in text:
                states = machine.step(states, ord(character))
            if machine.end not in states:
                return False
        return True

    return takes


def rules(languages: Sequence[Language], least: int, most: int | None, prefix: str) -> list[str]:
    """Return GBNF rules of the texts in all ``languages`` of ``least`` to ``most`` characters.

    The texts are without quotes. Names of rules begin with ``prefix``; the first rule is the start.
    Empty if there are no such texts. Raise `TooLarge`.
    """
    machines = [_Machine(one) for one in languages]
    start = (tuple(machine.start for machine in machines), 0)
    edges: dict[_Node, dict[_Node, list[tuple[int, int]]]] = {}
    todo = [start]
    count = 0
    while todo:
        node = todo.pop()
        if node in edges:
            continue
        targets: dict[_Node, list[tuple[int, int]]] = {}
        edges[node] = targets
        states, length = node
        if most is not None and length == most:
            continue
        # Without an upper bound, all lengths from the lower bound on are equivalent.
        longer = length + 1 if most is not None else min(length + 1, least)
        for low, high in _cells(machines, states):
            following = tuple(
                machine.step(one, low) for machine, one in zip(machines, states, strict=True)
            )
            if all(following):
                targets.setdefault((following, longer), []).append((low, high))
        count += len(targets)
        todo += targets
        if len(edges) > _MAX_NODES or count > _MAX_EDGES:
            raise TooLarge
    ending = {
        node
        for node in edges
        if node[1] >= least
        and all(machine.end in one for machine, one in zip(machines, node[0], strict=True))
    }
    alive = _leading_to(ending, edges)
    if start not in alive:
        return []
    kept = [node for node in edges if node in alive]
    names = {node: f"{prefix}-{number}" for number, node in enumerate(kept)}

    def body(node: _Node) -> str:
        ways = [
            f"{in_quotes(joined(ranges))} {names[target]}"
            for target, ranges in edges[node].items()
            if target in alive
        ]
        return " | ".join([*ways, *(['""'] if node in ending else [])])

    return [f"{names[node]} ::= {body(node)}" for node in kept]


_States = frozenset[int]
_Node = tuple[tuple[_States, ...], int]


class _Machine:
    """A language as a nondeterministic automaton.

    Sets of its states are closed under empty moves.
    """

    def __init__(self, language: Language) -> None:
        self._work = 0
        self._empty: list[list[int]] = []
        self._moves: list[list[tuple[Ranges, int]]] = []
        begin, self.end = self._state(), self._state()
        self._add(language, begin, self.end)
        self._steps: dict[tuple[_States, int], _States] = {}
        self.start = self._closed({begin})

    def ranges(self, states: _States) -> Iterable[tuple[int, int]]:
        return (pair for state in states for ranges, _ in self._moves[state] for pair in ranges)

    def step(self, states: _States, code: int) -> _States:
        key = (states, code)
        if key not in self._steps:
            self._work += 1 + len(states)
            if self._work > _MAX_WORK:
                raise TooLarge
            self._steps[key] = self._closed(
                {
                    target
                    for state in states
                    for ranges, target in self._moves[state]
                    if any(low <= code <= high for low, high in ranges)
                }
            )
        return self._steps[key]

    def _state(self) -> int:
        if len(self._empty) > _MAX_STATES:
            raise TooLarge
        self._empty.append([])
        self._moves.append([])
        return len(self._empty) - 1

    def _add(self, language: Language, begin: int, end: int) -> None:
        match language:
            case Letter(ranges):
                self._moves[begin].append((ranges, end))
            case Row(parts):
                for part in parts:
                    after = self._state()
                    self._add(part, begin, after)
                    begin = after
                self._empty[begin].append(end)
            case Choice(ways):
                for way in ways:
                    self._add(way, begin, end)
            case Times(item, least, most):
                for number in range(least if most is None else most):
                    if number >= least:
                        self._empty[begin].append(end)
                    after = self._state()
                    self._add(item, begin, after)
                    begin = after
                if most is None:
                    loop, after = self._state(), self._state()
                    self._empty[begin].append(loop)
                    self._add(item, loop, after)
                    self._empty[after].append(loop)
                    begin = loop
                self._empty[begin].append(end)

    def _closed(self, states: Iterable[int]) -> _States:
        found = set[int]()
        todo = list(states)
        while todo:
            state = todo.pop()
            if state not in found:
                found.add(state)
                todo += self._empty[state]
        # Only states with moves, and the end, distinguish sets.
        return frozenset(one for one in found if self._moves[one] or one == self.end)


def _cells(machines: Sequence[_Machine], states: Sequence[_States]) -> list[tuple[int, int]]:
    """Return ranges of characters within which all machines move alike."""
    edges = set[int]()
    for machine, one in zip(machines, states, strict=True):
        for low, high in machine.ranges(one):
            edges |= {low, high + 1}
    bounds = sorted(edges)
    return [(low, high - 1) for low, high in pairwise(bounds)]


def _leading_to(
    ending: set[_Node], edges: dict[_Node, dict[_Node, list[tuple[int, int]]]]
) -> set[_Node]:
    before: dict[_Node, list[_Node]] = {}
    for node, targets in edges.items():
        for target in targets:
            before.setdefault(target, []).append(node)
    found = set[_Node]()
    todo = list(ending)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += before.get(node, [])
    return found


def plain(ranges: Ranges) -> str:
    """Return GBNF of one character of ``ranges``."""
    return "[" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges) + "]"


def in_quotes(ranges: Ranges) -> str:
    """Return GBNF of one character of ``ranges`` in a JSON string, some of which are escaped."""
    special = sorted({*range(0x20), 0x22, 0x5C, 0x7F})
    plain = "".join(
        f"\\U{low:08x}-\\U{high:08x}"
        for first, last in ranges
        for low, high in _cut(first, last, special)
    )
    escaped = [
        quoted(json.dumps(chr(code))[1:-1] if code != 0x7F else "\\u007f")
        for code in special
        if any(first <= code <= last for first, last in ranges)
    ]
    ways = ([f"[{plain}]"] if plain else []) + escaped
    if not ways:
        return "[]"
    return ways[0] if len(ways) == 1 else f"( {' | '.join(ways)} )"


def _cut(first: int, last: int, out: list[int]) -> list[tuple[int, int]]:
    parts = []
    for code in out:
        if first <= code <= last:
            if first < code:
                parts.append((first, code - 1))
            first = code + 1
    return [*parts, (first, last)] if first <= last else parts
