"""GBNF, llama.cpp's notation for grammars, read into rules.

Grammars come from people, so this refuses in linear time what could not be followed: too deep,
too large, rules that are missing, and left recursion, also behind parts that may be empty.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from chatsite.engine.backend import BadParameters

ROOT: Final = "root"
_MAX_DEPTH: Final = 100
_MAX_ELEMENTS: Final = 200_000
_MAX_TIMES: Final = 100_000
_LAST_CHARACTER: Final = 0x10FFFF
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_ESCAPES: Final = {"t": "\t", "r": "\r", "n": "\n", **{one: one for one in '\\"[]-'}}
_HEX: Final = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True)
class Chars:
    """One character in any of ``ranges`` (first and last code point, sorted, apart)."""

    ranges: tuple[tuple[int, int], ...]

    @cached_property
    def _firsts(self) -> list[int]:
        return [first for first, _ in self.ranges]

    def takes(self, code: int) -> bool:
        return self.overlaps(code, code)

    def overlaps(self, low: int, high: int) -> bool:
        """Whether any character from ``low`` to ``high`` is in."""
        at = bisect.bisect_right(self._firsts, high) - 1
        return at >= 0 and self.ranges[at][1] >= low


@dataclass(frozen=True, slots=True)
class Ref:
    rule: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """``item`` from ``least`` to ``most`` times; None: any number of times."""

    item: Chars | Ref
    least: int
    most: int | None


Element = Chars | Ref | Repeat
Rule = tuple[tuple[Element, ...], ...]


@dataclass(frozen=True, slots=True)
class Grammar:
    """Rules by number, each a choice of sequences; number ``root`` is where a text begins."""

    rules: tuple[Rule, ...]
    root: int


def parse(text: str) -> Grammar:
    """Raises `BadParameters` with the reason and the line."""
    grammar = _Parser(text).grammar()
    _refuse_left_recursion(grammar)
    return grammar


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._numbers: dict[str, int] = {}
        self._rules: dict[int, Rule] = {}
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
                raise self._error("a rule goes on with what is no part of one")
            self._space(newlines=True)
        for name, number in self._numbers.items():
            if number not in self._rules:
                raise BadParameters(f"the grammar has no rule `{name}`, but uses it")
        if ROOT not in self._numbers:
            raise BadParameters("the grammar has no rule `root`: a text begins there (GBNF)")
        rules = tuple(self._rules[number] for number in range(len(self._rules)))
        return Grammar(rules, self._numbers[ROOT])

    def _choice(self, depth: int) -> Rule:
        sequences = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._space(newlines=True)
            sequences.append(self._sequence(depth))
        return tuple(sequences)

    def _sequence(self, depth: int) -> tuple[Element, ...]:
        if depth > _MAX_DEPTH:
            raise self._error(f"brackets are more than {_MAX_DEPTH} deep")
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
                    raise self._error(f"there is nothing in front of `{one}` to repeat")
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
            found.append(self._chars([(code := self._character(), code)]))
        self._at += 1
        return tuple(found)

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
                raise self._error("a range ends before it begins")
            ranges.append((first, last))
        self._at += 1
        chars = self._chars(ranges)
        if not negated:
            return chars
        edges = [-1, *[edge for pair in chars.ranges for edge in pair], _LAST_CHARACTER + 1]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        return Chars(tuple((low + 1, high - 1) for low, high in gaps if low + 1 < high))

    def _chars(self, ranges: list[tuple[int, int]]) -> Chars:
        merged: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return Chars(tuple(merged))

    def _character(self) -> int:
        one = self._peek()
        if not one:
            raise self._error("the text ends within quotes or brackets")
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
            raise self._error(f"`\\{kind}{digits}` is no character")
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
            raise self._error("a repetition ends before it begins")
        return least, most

    def _count(self) -> int | None:
        begin = self._at
        while self._peek().isdecimal() and self._peek().isascii():
            self._at += 1
        digits = self._text[begin : self._at]
        self._space()
        if not digits or len(digits) > 6 or int(digits) > _MAX_TIMES:
            raise self._error(f"a repetition takes numbers up to {_MAX_TIMES}")
        return int(digits)

    def _name(self) -> str:
        begin = self._at
        while self._peek() and self._peek() in _NAME:
            self._at += 1
        if begin == self._at:
            raise self._error("the name of a rule is expected")
        return self._text[begin : self._at]

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _rule(self, rule: Rule) -> Ref:
        """A rule of its own for a group; no name has a blank."""
        self._unnamed += 1
        number = self._number(f"group {self._unnamed}")
        self._rules[number] = rule
        return Ref(number)

    def _space(self, *, newlines: bool = False) -> None:
        blanks = " \t\r\n" if newlines else " \t"
        while one := self._peek():
            if one == "#":
                while self._peek() not in {"", "\n", "\r"}:
                    self._at += 1
            elif one in blanks:
                self._at += 1
            else:
                return

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise self._error(f"`{text}` is expected")
        self._at += len(text)

    def _error(self, what: str) -> BadParameters:
        line = self._text.count("\n", 0, self._at) + 1
        return BadParameters(f"the grammar does not parse: {what} (GBNF, line {line})")


def _refuse_left_recursion(grammar: Grammar) -> None:
    nullable = _nullable(grammar)

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
                raise BadParameters("the grammar has a rule that begins with itself")
            else:
                open_.add(following)
                path.append((following, iter(firsts(following))))
        open_.discard(start)


def _nullable(grammar: Grammar) -> list[bool]:
    """Which rules may be empty: each occurrence of a rule is looked at once."""
    nullable = [False] * len(grammar.rules)
    missing: dict[tuple[int, int], int] = {}  # sequence -> elements that may not be empty
    used: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    todo = []
    for rule, sequences in enumerate(grammar.rules):
        for number, sequence in enumerate(sequences):
            needed = [
                element.item if isinstance(element, Repeat) else element
                for element in sequence
                if not (isinstance(element, Repeat) and element.least == 0)
            ]
            missing[rule, number] = len(needed)
            for item in needed:
                if isinstance(item, Ref):
                    used[item.rule].append((rule, number))
            if not needed:
                todo.append(rule)
    while todo:
        rule = todo.pop()
        if nullable[rule]:
            continue
        nullable[rule] = True
        for key in used[rule]:
            missing[key] -= 1
            if not missing[key]:
                todo.append(key[0])
    return nullable
