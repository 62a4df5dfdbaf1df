"""Parses GBNF, llama.cpp's grammar notation.

Grammars come from clients, so unsupported ones are refused in linear time: too deep, too large,
with missing rules or left recursion, also behind parts that may be empty.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from chatsite.engine.contract.backend import BadParameters

ROOT: Final = "root"
_MAX_DEPTH: Final = 100
_MAX_ELEMENTS: Final = 200_000
_MAX_TIMES: Final = 100_000
_LAST_CHARACTER: Final = 0x10FFFF
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_NAMES: Final = re.compile(r"[a-zA-Z0-9_-]+")
_UNESCAPED: Final = re.compile(r'[^"\\]+')
_BLANKS: Final = re.compile(r"(?:[ \t]+|#[^\r\n]*)*")
_SPACE: Final = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_ESCAPES: Final = {"t": "\t", "r": "\r", "n": "\n", **{one: one for one in '\\"[]-'}}
_HEX: Final = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True)
class Chars:
    """One character in any of ``ranges`` (first and last code point, sorted, disjoint)."""

    ranges: tuple[tuple[int, int], ...]

    @cached_property
    def _firsts(self) -> list[int]:
        return [first for first, _ in self.ranges]

    def takes(self, code: int) -> bool:
        return self.overlaps(code, code)

    def overlaps(self, low: int, high: int) -> bool:
        """Return whether any character from ``low`` to ``high`` is in the set."""
        at = bisect.bisect_right(self._firsts, high) - 1
        return at >= 0 and self.ranges[at][1] >= low


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges sorted, with overlapping and adjacent ones merged."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to a rule by number."""

    rule: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """``item`` repeated ``least`` to ``most`` times; None: unbounded."""

    item: Chars | Ref
    least: int
    most: int | None


Element = Chars | Ref | Repeat
Rule = tuple[tuple[Element, ...], ...]


@dataclass(frozen=True, slots=True)
class Grammar:
    """Rules by number, each a choice of sequences; a text begins with rule ``root``.

    ``names`` are the rules' names in the text; those of groups contain a space.
    """

    rules: tuple[Rule, ...]
    root: int
    names: tuple[str, ...] = ()


def parse(text: str) -> Grammar:
    """Parse a grammar. Raise `BadParameters` with the reason and the line."""
    grammar = _Parser(text).grammar()
    _refuse_left_recursion(grammar)
    return grammar


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._numbers: dict[str, int] = {}
        self._rules: dict[int, Rule] = {}
        self._single: dict[int, Chars] = {}
        self._unnamed = 0
        self._elements = 0

    def grammar(self) -> Grammar:
        self._space(newlines=True)
        while self._at < len(self._text):
            name = self._name()
            self._space()
            self._expect("::=")
            self._space(newlines=True)
            self._rules[self._number(name)] = self._choice(0)
            if self._at < len(self._text) and self._peek() not in "\r\n":
                raise self._error("unexpected text after a rule")
            self._space(newlines=True)
        for name, number in self._numbers.items():
            if number not in self._rules:
                raise BadParameters(f"the grammar uses undefined rule `{name}`")
        if ROOT not in self._numbers:
            raise BadParameters("the grammar has no rule `root`, the start symbol of GBNF")
        rules = tuple(self._rules[number] for number in range(len(self._rules)))
        return Grammar(rules, self._numbers[ROOT], tuple(self._numbers))

    def _choice(self, depth: int) -> Rule:
        sequences = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._space(newlines=True)
            sequences.append(self._sequence(depth))
        return tuple(sequences)

    def _sequence(self, depth: int) -> tuple[Element, ...]:
        if depth > _MAX_DEPTH:
            raise self._error(f"groups are nested more than {_MAX_DEPTH} deep")
        elements: list[Element] = []
        last: list[Element] = []
        while one := self._peek():
            if one == '"':
                last = list(self._literal())
            elif one == "[":
                last = [self._class()]
            elif one == ".":
                self._at += 1
                last = [Chars(((0, _LAST_CHARACTER),))]
            elif one in _NAME:
                last = [Ref(self._number(self._name()))]
            elif one == "(":
                self._at += 1
                self._space(newlines=True)
                last = [self._rule(self._choice(depth + 1))]
                self._expect(")")
            elif one in "*+?{":
                if not last:
                    raise self._error(f"nothing to repeat before `{one}`")
                del elements[len(elements) - len(last) :]
                item = last[0]
                if len(last) > 1 or isinstance(item, Repeat):
                    item = self._rule((tuple(last),))
                last = [Repeat(item, *self._times())]
            else:
                break
            elements += last
            self._elements += len(last)
            if self._elements > _MAX_ELEMENTS:
                raise BadParameters(f"the grammar has more than {_MAX_ELEMENTS} parts")
            self._space(newlines=depth > 0)
        return tuple(elements)

    def _literal(self) -> tuple[Chars, ...]:
        self._at += 1
        found = []
        while self._peek() != '"':
            if plain := _UNESCAPED.match(self._text, self._at):
                self._at = plain.end()
                found += [self._one(ord(one)) for one in plain[0]]
            else:
                found.append(self._one(self._character()))
        self._at += 1
        return tuple(found)

    def _one(self, code: int) -> Chars:
        if code not in self._single:
            self._single[code] = Chars(((code, code),))
        return self._single[code]

    def _class(self) -> Chars:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges = []
        while self._peek() != "]":
            first = last = self._character()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._character()
            if last < first:
                raise self._error("the range is reversed")
            ranges.append((first, last))
        self._at += 1
        chars = Chars(tuple(joined(ranges)))
        if not negated:
            return chars
        edges = [-1, *[edge for pair in chars.ranges for edge in pair], _LAST_CHARACTER + 1]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        return Chars(tuple((low + 1, high - 1) for low, high in gaps if low + 1 < high))

    def _character(self) -> int:
        one = self._peek()
        if not one:
            raise self._error("unterminated string or character class")
        self._at += 1
        if one != "\\":
            return ord(one)
        kind = self._peek()
        self._at += 1
        if kind in _ESCAPES and kind:
            return ord(_ESCAPES[kind])
        digits = self._text[self._at : self._at + _HEX.get(kind, 0)]
        self._at += len(digits)
        try:
            code = int(digits, 16) if len(digits) == _HEX[kind] else -1
        except (KeyError, ValueError):
            code = -1
        if not 0 <= code <= _LAST_CHARACTER:
            raise self._error(f"`\\{kind}{digits}` is not a valid character escape")
        return code

    def _times(self) -> tuple[int, int | None]:
        one = self._peek()
        self._at += 1
        if one != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[one]
        self._space()
        least = most = self._count()
        if self._peek() == ",":
            self._at += 1
            self._space()
            most = None if self._peek() == "}" else self._count()
        self._expect("}")
        if least is None or (most is not None and most < least):
            raise self._error("the maximum is below the minimum")
        return least, most

    def _count(self) -> int | None:
        begin = self._at
        while self._peek().isdecimal() and self._peek().isascii():
            self._at += 1
        digits = self._text[begin : self._at]
        self._space()
        if not digits or len(digits) > 6 or int(digits) > _MAX_TIMES:
            raise self._error(f"repetition counts are limited to {_MAX_TIMES}")
        return int(digits)

    def _name(self) -> str:
        found = _NAMES.match(self._text, self._at)
        if not found:
            raise self._error("expected a rule name")
        self._at = found.end()
        return found[0]

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _rule(self, rule: Rule) -> Ref:
        """Add a rule for a group; its name contains a space, which no name in the text does."""
        self._unnamed += 1
        number = self._number(f"group {self._unnamed}")
        self._rules[number] = rule
        return Ref(number)

    def _space(self, *, newlines: bool = False) -> None:
        if found := (_SPACE if newlines else _BLANKS).match(self._text, self._at):
            self._at = found.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise self._error(f"expected `{text}`")
        self._at += len(text)

    def _error(self, what: str) -> BadParameters:
        line = self._text.count("\n", 0, self._at) + 1
        return BadParameters(f"the grammar does not parse: {what} (GBNF, line {line})")


def _refuse_left_recursion(grammar: Grammar) -> None:
    nullable = nullable_rules(grammar)

    def may_be_empty(element: Element) -> bool:
        match element:
            case Chars():
                return False
            case Ref(rule):
                return nullable[rule]
            case Repeat(item, least, most):
                return least == 0 or most == 0 or may_be_empty(item)

    def firsts(rule: int) -> set[int]:
        found = set()
        for sequence in grammar.rules[rule]:
            for element in sequence:
                item = element.item if isinstance(element, Repeat) else element
                if isinstance(item, Ref):
                    found.add(item.rule)
                if not may_be_empty(element):
                    break
        return found

    done, open_ = set[int](), set[int]()
    for start in range(len(grammar.rules)):
        path = [(start, iter(firsts(start)))] if start not in done else []
        open_.add(start)
        while path:
            rule, left = path[-1]
            following = next((one for one in left if one not in done), None)
            if following is None:
                path.pop()
                done.add(rule)
                open_.discard(rule)
            elif following in open_:
                raise BadParameters("the grammar has a left-recursive rule")
            else:
                open_.add(following)
                path.append((following, iter(firsts(following))))
        open_.discard(start)


def nullable_rules(grammar: Grammar) -> list[bool]:
    """Return which rules may be empty."""
    return _derivable(grammar, lambda item: isinstance(item, Ref))


def derivable_rules(grammar: Grammar) -> list[bool]:
    """Return which rules have a finite text."""
    return _derivable(grammar, lambda item: isinstance(item, Ref) or bool(item.ranges))


def productive(grammar: Grammar) -> Grammar:
    """Return the grammar without parts that can't end, such as a rule that requires itself.

    Raise `BadParameters` if nothing is left.
    """
    done = derivable_rules(grammar)
    if not done[grammar.root]:
        raise BadParameters(
            "the grammar allows no finite text: a required rule always requires itself again, or "
            "a character of an empty class"
        )

    def possible(item: Chars | Ref) -> bool:
        return done[item.rule] if isinstance(item, Ref) else bool(item.ranges)

    def kept(sequence: tuple[Element, ...]) -> tuple[Element, ...] | None:
        elements: list[Element] = []
        for element in sequence:
            if possible(element.item if isinstance(element, Repeat) else element):
                elements.append(element)
            elif not isinstance(element, Repeat) or element.least:
                return None
        return tuple(elements)

    rules = tuple(
        tuple(one for sequence in rule if (one := kept(sequence)) is not None)
        for rule in grammar.rules
    )
    return Grammar(rules, grammar.root, grammar.names)


def _derivable(grammar: Grammar, able: Callable[[Chars | Ref], bool]) -> list[bool]:
    """Return which rules derive a text of items that are ``able``, in linear time.

    A reference counts once its rule is derivable. Each occurrence of a rule is visited once.
    """
    found = [False] * len(grammar.rules)
    missing: dict[tuple[int, int], int] = {}  # sequence -> elements that are not derivable yet
    used: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    todo = []
    for rule, sequences in enumerate(grammar.rules):
        for number, sequence in enumerate(sequences):
            needed = [
                element.item if isinstance(element, Repeat) else element
                for element in sequence
                if not (isinstance(element, Repeat) and element.least == 0)
            ]
            refs = [item for item in needed if isinstance(item, Ref)]
            if not all(map(able, needed)):
                continue
            missing[rule, number] = len(refs)
            for item in refs:
                used[item.rule].append((rule, number))
            if not refs:
                todo.append(rule)
    while todo:
        rule = todo.pop()
        if found[rule]:
            continue
        found[rule] = True
        for key in used[rule]:
            missing[key] -= 1
            if not missing[key]:
                todo.append(key[0])
    return found
